"""Hours of load with churn of everything; what must stay flat is sampled, drawn and judged.

    distributor, core 0  <--- steady emitters, short ones, ones that die in a frame    core 1
                         ---> analyzers that are killed, stopped, restarted; a steady one

Started by `scripts/soak.sh`, which see.
"""

import argparse
import csv
import glob
import heapq
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import chart
from programs import Distributor, Program

HERE = os.path.dirname(os.path.abspath(__file__))
SAMPLE_SECONDS = 2.0
STEADY_EMITTERS = 2
CONNECTIONS = 100
ANALYZERS = ("a1", "a2", "a3", "a4")
WEIGHTS = (0.1, 0.2, 0.3, 0.4, 0.8)
DIALECTS = ("native", "native", "compact", "typed")
# The analyzer that nothing happens to: its delays are drawn.
STEADY = "steady"
STEADY_WEIGHT = 0.1
PROGRESS = re.compile(r"delay p50 (\d+) us, p99 (\d+) us")
# Most that the median of the last sixth may differ from that of the first.
FLAT = 0.02
# Latency is the whole machine's, not only the distributor's: judged with room.
LATENCY_FACTOR, LATENCY_SLACK_US = 1.5, 500
# Longer than any re-route takes: then the distributor stands still.
SILENCE_SECONDS_MAX = 15
CALIBRATE_SECONDS = 8
END_PATIENCE = 60


def arguments():
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="scripts/soak.sh", allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=int, default=0)
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--cores", default="0")
    parser.add_argument("--client-cores", default="1")
    parser.add_argument("--out", default="soak")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--weir", default="target/release/weir")
    return parser.parse_args()


class Soak:
    """Everything that runs, and the plan of what happens next."""

    def __init__(self, args, directory):
        self.args = args
        self.directory = directory
        self.random = random.Random(args.seed)
        self.programs = []
        self.analyzers = {}
        self.stopped = set()
        self.plan = []
        self.order = 0
        self.cuts = 0
        self.did = {}
        self.reports = []
        self.is_cut_short = False
        self.logs_read = 0
        self.rows = []
        self.start = time.monotonic()

    # Programs

    def client(self, name, argv):
        """A child on the clients' cores."""
        prefix = ("taskset", "-c", self.args.client_cores)
        program = Program(name, argv, self.directory, prefix=prefix)
        self.programs.append(program)
        return program

    def run_report(self, name):
        """Where a program of this name leaves its run report."""
        return os.path.join(self.directory, f"{name}.json")

    def distribute(self):
        """The distributor on its own cores, on free ports."""
        flags = ["--emitters", "127.0.0.1:0", "--analyzers", "127.0.0.1:0", "--cores", self.args.cores,
                 "--ack-timeout", "5s", "--peer-timeout", "4s", "--drain-timeout", "20s",
                 "--report", self.run_report("distributor")]
        self.distributor = Distributor("distributor", self.args.weir, flags, self.directory)
        self.programs.append(self.distributor)
        self.distributor.wait_ready()
        ready = next(line for line in self.distributor.log() if " ready " in line)
        fields = dict(word.split("=", 1) for word in ready.split() if "=" in word)
        self.emitter_addr, self.analyzer_addr = fields["emitters"], fields["analyzers"]

    def analyze(self, host, weight=None, dialect=None):
        """An analyzer; dialect and weight as they fall, unless given."""
        argv = [self.args.weir, "analyzer", "--addr", self.analyzer_addr, "--id", host,
                "--weight", str(weight or self.random.choice(WEIGHTS)),
                "--dialect", dialect or self.random.choice(DIALECTS),
                "--ack-every", str(self.random.choice((10, 100, 500))), "--json", "--stop-on-eof",
                "--report", self.run_report(host)]
        if weight is None and self.random.random() < 0.3:
            argv.append("--vary-weight")
        if host == STEADY:
            argv.append("--verbose")
        program = self.client(host, argv)
        if host != STEADY:
            self.analyzers[host] = program
        return program

    def emit(self, name, rate, count, connections, batch):
        """An emitter of `count` messages."""
        argv = [self.args.weir, "emitter", "--addr", self.emitter_addr, "--id", name, "--rate", str(rate),
                "--count", str(count), "--connections", str(connections), "--batch", str(batch),
                "--size", str(self.args.size), "--json", "--stop-on-eof", "--report", self.run_report(name)]
        return self.client(name, argv)

    # Churn

    def later(self, seconds, act, *args):
        """Puts something on the plan."""
        self.order += 1
        heapq.heappush(self.plan, (time.monotonic() + seconds, self.order, act, args))

    def act_on_plan(self):
        """Does what is due."""
        while self.plan and self.plan[0][0] <= time.monotonic():
            _, _, act, args = heapq.heappop(self.plan)
            act(*args)

    def churn(self):
        """One event, and the next in a few seconds."""
        acts = (self.kill, self.kill, self.stop, self.leave, self.short_emitter, self.short_emitter, self.cut_emitter)
        act = self.random.choice(acts)
        self.did[act.__name__] = self.did.get(act.__name__, 0) + 1
        act()
        self.later(self.random.uniform(1, 3), self.churn)

    def running(self):
        """Analyzers that can be hit, as long as two others stay."""
        able = [h for h, p in self.analyzers.items() if p.is_alive() and h not in self.stopped]
        return able if len(able) > 2 else []

    def kill(self):
        """SIGKILL; back soon."""
        for host in self.random.sample(self.running(), min(1, len(self.running()))):
            self.analyzers[host].kill()
            self.later(self.random.uniform(0.1, 1.5), self.analyze, host)

    def leave(self):
        """Drains, says goodbye; back with another weight and dialect."""
        for host in self.random.sample(self.running(), min(1, len(self.running()))):
            self.stopped.add(host)
            self.analyzers[host].close_stdin()
            self.later(0.2, self.left, host, time.monotonic() + 15)

    def left(self, host, deadline):
        """Starts it again when it has gone."""
        program = self.analyzers[host]
        if program.is_alive() and time.monotonic() < deadline:
            return self.later(0.2, self.left, host, deadline)
        program.dispose()
        self.stopped.discard(host)
        self.analyze(host)

    def stop(self):
        """SIGSTOP, sometimes for longer than the distributor waits."""
        for host in self.random.sample(self.running(), min(1, len(self.running()))):
            self.stopped.add(host)
            self.analyzers[host].signal(signal.SIGSTOP)
            self.later(self.random.choice((0.5, 2, 8)), self.go_on, host)

    def go_on(self, host):
        """SIGCONT."""
        self.analyzers[host].signal(signal.SIGCONT)
        self.stopped.discard(host)

    def short_emitter(self):
        """Connects, sends for two seconds, closes."""
        name = f"short{self.did['short_emitter']}"
        program = self.emit(name, 1_000, 2_000, self.random.choice((1, 4, 16)), self.random.choice((1, 8)))
        self.later(2.5, self.collect, program, END_PATIENCE + time.monotonic())

    def collect(self, program, deadline):
        """Notes how a short emitter ended."""
        if program.is_alive() and time.monotonic() < deadline:
            return self.later(0.5, self.collect, program, deadline)
        if program.wait(0) != 0:
            self.reports.append(f"{program.name} ended with {program.wait(0)}")
        self.forget(program)

    def forget(self, program):
        """Drops a program that is over, with its files: hours make many."""
        program.dispose()
        self.programs.remove(program)
        for path in (program.out_path, program.err_path):
            os.unlink(path)

    def cut_emitter(self):
        """Dies in the middle of a frame."""
        self.cuts += 1
        name, connections, frames = f"cut{self.cuts}", 4, self.random.choice((1, 30))
        host, port = self.emitter_addr.rsplit(":", 1)
        size = self.random.choice((200, 3_000, 60_000))
        argv = [sys.executable, os.path.join(HERE, "cutter.py"), host, port, name, connections, frames, size,
                self.run_report(name)]
        program = self.client(name, list(map(str, argv)))
        self.later(0.5, self.cut, program, time.monotonic() + 15)

    def cut(self, program, deadline):
        """SIGKILL as soon as the kernel has taken what it wrote."""
        is_ready = "cut" in program.text(program.out_path)
        if not is_ready and program.is_alive() and time.monotonic() < deadline:
            return self.later(0.2, self.cut, program, deadline)
        if not is_ready:
            self.reports.append(f"{program.name} was never ready")
        self.forget(program)

    # Samples

    def sample(self):
        """One row: what the kernel says of the distributor, what the steady analyzer says of delays."""
        pid = self.distributor.pid
        with open(f"/proc/{pid}/status") as file:
            status = dict(line.split(":", 1) for line in file)
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        ticks = int(fields[11]) + int(fields[12])
        now = time.monotonic()
        last = self.rows[-1] if self.rows else None
        p50, p99 = self.delays()
        row = {
            "seconds": round(now - self.start, 2), "rss_kib": int(status["VmRSS"].split()[0]),
            "descriptors": len(os.listdir(f"/proc/{pid}/fd")), "threads": int(status["Threads"]),
            "cpu_ticks": ticks, "cpu_percent": 0.0, "p50_us": p50, "p99_us": p99,
        }
        if last:
            passed = row["seconds"] - last["seconds"]
            row["cpu_percent"] = round(100 * (ticks - last["cpu_ticks"]) / os.sysconf("SC_CLK_TCK") / passed, 1)
        self.rows.append(row)

    def delays(self):
        """The newest percentiles of the steady analyzer, None if it has said nothing new."""
        with open(self.steady.err_path) as file:
            file.seek(self.logs_read)
            new = file.read()
        self.logs_read += len(new)
        found = PROGRESS.findall(new)
        return tuple(map(int, found[-1])) if found else (None, None)

    # The whole

    def run(self):
        """Load, churn, samples, end; the list of what is wrong."""
        args = self.args
        self.distribute()
        for host in ANALYZERS:
            self.analyze(host)
        self.steady = self.analyze(STEADY, STEADY_WEIGHT, "native")
        self.distributor.wait_log("analyzer up", 20, len(ANALYZERS) + 1)
        steady = []
        per_emitter = args.rate // STEADY_EMITTERS
        for index in range(STEADY_EMITTERS):
            count = int(per_emitter * args.minutes * 60)
            steady.append(self.emit(f"steady{index}", per_emitter, count, CONNECTIONS, 8))
        self.start = time.monotonic()
        self.later(2, self.churn)
        self.turn(steady, self.start + args.minutes * 60)
        return self.finish(steady)

    def turn(self, steady, end):
        """Until the time is over."""
        next_sample = self.start
        while time.monotonic() < end and not self.is_cut_short:
            self.act_on_plan()
            if time.monotonic() >= next_sample:
                self.sample()
                next_sample += SAMPLE_SECONDS
            if not self.distributor.is_alive():
                raise RuntimeError(f"the distributor ended: {self.distributor.log()[-3:]}")
            time.sleep(0.02)

    def finish(self, steady):
        """No more churn; everything ends in order, then the count."""
        wrong = self.reports
        pending = [act for _, _, act, _ in self.plan if act.__name__ != "churn"]
        deadline = time.monotonic() + END_PATIENCE
        while pending and time.monotonic() < deadline:
            self.plan = [entry for entry in self.plan if entry[2].__name__ != "churn"]
            heapq.heapify(self.plan)
            self.act_on_plan()
            pending = self.plan
            time.sleep(0.02)
        for emitter in steady:
            if self.is_cut_short:
                emitter.close_stdin()
            status = emitter.wait(END_PATIENCE)
            if status != 0:
                wrong.append(f"{emitter.name} ended with {status}: {emitter.report()}")
        self.distributor.signal(signal.SIGTERM)
        status = self.distributor.wait(END_PATIENCE)
        if status != 0:
            wrong.append(f"the distributor ended with {status}")
        for program in [*self.analyzers.values(), self.steady]:
            program.close_stdin()
            if program.wait(END_PATIENCE) is None:
                wrong.append(f"{program.name} did not end")
        return wrong + self.judge()

    def audit(self):
        """The verdict of `weir audit` over everything that ran."""
        files = glob.glob(os.path.join(self.directory, "*.json"))
        files += glob.glob(os.path.join(self.directory, "*.json.journal"))
        done = subprocess.run([self.args.weir, "audit", *sorted(files)], capture_output=True, text=True)
        # Reference clients have a name for each connection: hundreds of shares.
        told = [line for line in done.stdout.splitlines() if not line.startswith("share ")]
        print("\n".join(told) + done.stderr)
        return [] if done.returncode == 0 else [f"weir audit: status {done.returncode}"]

    def judge(self):
        """The audit, and flatness."""
        wrong = self.audit() + self.distributor.panicked()
        print(f"time        {self.rows[-1]['seconds'] / 60:.1f} minutes")
        print("churn       " + ", ".join(f"{name} {count}" for name, count in sorted(self.did.items())))
        for name, unit, limit in (("rss_kib", "KiB", FLAT), ("descriptors", "", FLAT), ("threads", "", FLAT)):
            first, last = self.sixths(name)
            change = last / first - 1
            print(f"{name:11} first sixth {first:.0f} {unit}, last {last:.0f} {unit}: {100 * change:+.2f} %")
            if abs(change) > limit:
                wrong.append(f"{name} is not flat: {first} to {last}")
        silence = self.longest_silence()
        print(f"silence     at most {silence:.0f} s without a message for the steady analyzer")
        if silence > SILENCE_SECONDS_MAX:
            wrong.append(f"nothing moved for {silence:.0f} s")
        for name in ("p50_us", "p99_us"):
            first, last = self.sixths(name)
            print(f"{name:11} first sixth {first:.0f}, last {last:.0f}")
            if name == "p50_us" and last > first * LATENCY_FACTOR + LATENCY_SLACK_US:
                wrong.append(f"latency is not flat: {first} to {last} us")
        return wrong

    def longest_silence(self):
        """Longest time in seconds that the steady analyzer got nothing."""
        heard = [row["seconds"] for row in self.rows if row["p50_us"] is not None]
        moments = [0, *heard, self.rows[-1]["seconds"]]
        return max(later - earlier for earlier, later in zip(moments, moments[1:]))

    def sixths(self, name):
        """Medians of the first and the last sixth of the samples."""
        sixth = max(len(self.rows) // 6, 1)
        parts = self.rows[:sixth], self.rows[-sixth:]
        values = [[row[name] for row in part if row[name] is not None] for part in parts]
        return tuple(statistics.median(part) if part else 0 for part in values)

    def write(self, out):
        """CSV and chart."""
        with open(f"{out}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, self.rows[0].keys())
            writer.writeheader()
            writer.writerows(self.rows)
        column = lambda name, scale=1.0: [None if r[name] is None else r[name] * scale for r in self.rows]
        minutes = self.rows[-1]["seconds"] / 60
        title = f"Soak: {minutes:.0f} minutes, {self.args.rate:,} messages/s, churn of everything"
        panels = [
            ("resident memory of the distributor, MiB", [("", column("rss_kib", 1 / 1024))]),
            ("open descriptors", [("", column("descriptors"))]),
            ("delay of a steady analyzer, ms", [("p50", column("p50_us", 1e-3)), ("p99", column("p99_us", 1e-3))]),
            ("CPU of the distributor, % of a core", [("", column("cpu_percent"))]),
        ]
        with open(f"{out}.svg", "w") as file:
            file.write(chart.draw(title, column("seconds"), panels))

    def cut_short(self, *_):
        """The end comes now, with everything that belongs to it."""
        self.is_cut_short = True

    def dispose(self):
        """Ends whatever is left."""
        for program in self.programs:
            program.dispose()


def calibrate(args, directory):
    """Half of what these clients on these cores take while flooded, in messages per second."""
    soak = Soak(args, directory)
    try:
        soak.distribute()
        for host in ANALYZERS:
            soak.analyze(host)
        soak.distributor.wait_log("analyzer up", 20, len(ANALYZERS))
        argv = [args.weir, "emitter", "--addr", soak.emitter_addr, "--id", "flood", "--rate", "0", "--duration",
                str(CALIBRATE_SECONDS), "--connections", str(CONNECTIONS), "--batch", "8", "--size",
                str(args.size), "--json"]
        flood = soak.client("flood", argv)
        flood.wait(CALIBRATE_SECONDS + END_PATIENCE)
        report = flood.report()
        return int(report["messages"] / report["seconds"] / 2)
    finally:
        soak.dispose()


def main():
    args = arguments()
    args.seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 32)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="weir-soak-", dir=os.environ.get("TMPDIR")) as scratch:
        if args.rate == 0:
            place = os.path.join(scratch, "calibrate")
            os.mkdir(place)
            args.rate = calibrate(args, place)
        print(f"seed {args.seed}, {args.minutes:g} minutes at {args.rate} messages/s", flush=True)
        soak = Soak(args, scratch)
        signal.signal(signal.SIGINT, soak.cut_short)
        try:
            wrong = soak.run()
        except RuntimeError as error:
            wrong = [str(error)]
        finally:
            soak.dispose()
            if soak.rows:
                soak.write(args.out)
    for line in wrong:
        print(f"WRONG: {line}")
    print("not flat or not balanced" if wrong else "balanced and flat")
    return 1 if wrong else 0


sys.exit(main())
