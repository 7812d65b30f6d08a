"""One run: a distributor, analyzers and emitters on hosts of their own, and the verdict at the end.

Two witnesses that know nothing of each other: `weir audit` joins the run_reports and journals of all
programs, and the record files are counted here. They must agree.
"""

import dataclasses
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import books
from net import Net
from programs import Distributor, Program

EMITTER_PORT = 8080
ANALYZER_PORT = 8081
HTTP_PORT = 3000
# Where analyzers over HTTP listen, each on its host.
HTTP_ANALYZER_PORT = 3001
HERE = os.path.dirname(os.path.abspath(__file__))
# Of every analyzer, unless a scenario says otherwise.
WEIGHT = 0.25
# A whole run that is stuck fails after this long rather than block the series.
EMITTER_PATIENCE = 60
END_PATIENCE = 25


@dataclasses.dataclass
class Outcome:
    """What one run came to. Counts are messages, times nanoseconds."""

    sent: int = 0
    delivered: int = 0
    missing: int = 0
    not_taken: int = 0
    duplicates: int = 0
    # Of them: an emitter over HTTP says that it sent them again for want of an answer.
    posted_twice: int = 0
    recognised: int = 0
    recognisable: bool = True
    rerouted: int = 0
    reroute_ns: list = dataclasses.field(default_factory=list)
    detect_ns: list = dataclasses.field(default_factory=list)
    problems: list = dataclasses.field(default_factory=list)
    notes: list = dataclasses.field(default_factory=list)


class Rig:
    """`variant` is (shards, dialect); `slot` tells parallel runs apart."""

    def __init__(self, tag, directory, weir, variant, slot, random, hosts=("e", "a1", "a2", "a3"), tls=None):
        self.weir = weir
        self.tls = tls
        self.shards, self.dialect = variant
        self.slot = slot
        self.random = random
        self.directory = directory
        self.net = Net(tag, hosts)
        self.programs = []
        self.distributors = []
        self.analyzers = {}
        self.emitters = []
        self.hogs = []
        self.sent = {}
        self.forbidden = {}
        self.struck_ns = []
        self.may_lose_untaken = False
        self.outcome = Outcome()
        self.analyzer_killed = False

    # Start

    def up(self):
        """Makes the hosts."""
        os.makedirs(self.directory, exist_ok=True)
        self.net.up()

    def distribute(self, *flags, prefix=(), outer=()):
        """Starts a distributor and waits until it is ready."""
        defaults = {
            "--emitters": f"0.0.0.0:{EMITTER_PORT}",
            "--analyzers": f"0.0.0.0:{ANALYZER_PORT}",
            "--arena": "16MiB",
            "--peer-timeout": "4s",
        }
        if self.is_http:
            defaults |= {"--http": f"0.0.0.0:{HTTP_PORT}", "--health-interval": "200ms", "--slow-start": "0s"}
        if self.tls:
            defaults |= self.tls.of_distributor(self.is_http)
        if self.shards == 1:
            defaults["--cores"] = str(self.slot % (os.cpu_count() or 1))
        else:
            defaults["--shards"] = str(self.shards)
        name = f"distributor{len(self.distributors)}"
        defaults["--report"] = self.run_report(name)
        given = dict(flag.split("=", 1) for flag in flags)
        words = [word for pair in {**defaults, **given}.items() for word in pair]
        if self.is_http:
            for host in self.analyzer_hosts():
                place = f"{self.net.address(host)}:{HTTP_ANALYZER_PORT}"
                url = self.tls.analyzer_url(place) if self.tls else f"http://{place}"
                words += ["--http-analyzer", f"{host}={WEIGHT}@{url}"]
        distributor = Distributor(
            name, self.weir, words, self.directory, netns=self.net.name("d"), prefix=prefix, outer=outer
        )
        self.programs.append(distributor)
        self.distributors.append(distributor)
        distributor.wait_ready()
        return distributor

    @property
    def is_http(self):
        """All analyzers of this variant are reached over HTTP."""
        return self.dialect == "http"

    def analyzer_hosts(self):
        """Hosts with analyzers."""
        return [host for host in self.net.hosts if host.startswith("a")]

    @property
    def distributor(self):
        """The present one."""
        return self.distributors[-1]

    def dialect_of(self, host):
        """What the analyzer there speaks in this variant."""
        if self.dialect != "mixed":
            return self.dialect
        return ("native", "compact", "typed")[self.analyzer_hosts().index(host) % 3]

    def run_report(self, name):
        """Where a program of this name leaves its run report."""
        return os.path.join(self.directory, f"{name}.json")

    def record(self, host):
        """Its record file."""
        return os.path.join(self.directory, f"{host}.records")

    def analyze(self, host, *flags, weight=WEIGHT, ack_every=200):
        """Starts an analyzer there, or starts it again under the same id."""
        if self.is_http:  # the distributor has its weight
            reached = ["--http", f"{self.net.address(host)}:{HTTP_ANALYZER_PORT}"]
        else:
            reached = [
                "--addr", f"{self.net.gateway(host)}:{ANALYZER_PORT}", "--weight", str(weight),
                "--dialect", self.dialect_of(host), "--ack-every", str(ack_every),
            ]
        if self.tls:
            reached += self.tls.of_server() if self.is_http else self.tls.of_client(host)
        argv = [
            self.weir, "analyzer", *reached, "--id", host, "--record", self.record(host), "--json",
            "--stop-on-eof", "--report", self.run_report(host), *flags,
        ]
        program = Program(host, argv, self.directory, netns=self.net.name(host))
        self.programs.append(program)
        self.analyzers[host] = program
        return program

    def analyze_all(self, *flags):
        """One analyzer on every host for analyzers; waits until all their links are up."""
        for host in self.analyzer_hosts():
            self.analyze(host, *flags)
        self.wait_up(self.analyzer_hosts())

    def wait_up(self, hosts, seconds=20):
        """Waits until these analyzers have all their links to a distributor that has just started."""
        on_each = [host for host in hosts if self.dialect_of(host) in ("native", "http")]
        links = len(on_each) * self.shards + len(hosts) - len(on_each)
        self.distributor.wait_log("analyzer up", seconds, links)

    def ups(self, host):
        """How often a link with this analyzer has come up, all shards and lives."""
        lines = self.distributor.log()
        return sum("analyzer up" in line and f"analyzer={host} " in line for line in lines)

    def wait_ups(self, host, count, seconds=20):
        """Until so many have."""
        deadline = time.monotonic() + seconds
        while self.ups(host) < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{host} came up {self.ups(host)} times within {seconds} s, expected {count}")
            time.sleep(0.02)

    def emit(self, name="e", host="e", rate=30_000, seconds=3.0, connections=8, batch=4, size=120, http=False, flags=()):
        """Starts an emitter of rate x seconds messages."""
        count = int(rate * seconds)
        gateway = self.net.gateway(host)
        scheme = "https" if self.tls else "http"
        to = ["--http", f"{scheme}://{gateway}:{HTTP_PORT}"] if http else ["--addr", f"{gateway}:{EMITTER_PORT}"]
        to += self.tls.of_client("emitter") if self.tls else []
        argv = [
            self.weir, "emitter", *to, "--id", name,
            "--rate", str(rate), "--count", str(count), "--connections", str(connections),
            "--batch", str(batch), "--size", str(size), "--json", "--stop-on-eof",
            "--report", self.run_report(name), *flags,
        ]
        program = Program(name, argv, self.directory, netns=self.net.name(host))
        self.programs.append(program)
        self.emitters.append(program)
        for index, messages in enumerate(books.split(count, connections, batch)):
            self.sent[f"{name}/{index}"] = messages
        return program

    def helper(self, script, host, *words, port=EMITTER_PORT):
        """Starts one of the python helpers there."""
        path = os.path.join(HERE, f"{script}.py")
        argv = [sys.executable, path, self.net.gateway(host), str(port), *map(str, words)]
        program = Program(f"{script}-{len(self.programs)}", argv, self.directory, netns=self.net.name(host))
        self.programs.append(program)
        return program

    def hog(self, core):
        """Starts a busy loop on a core."""
        argv = ["taskset", "-c", core, "sh", "-c", "while :; do :; done"]
        program = Program(f"hog-{len(self.programs)}", argv, self.directory, netns=self.net.name("d"))
        self.programs.append(program)
        self.hogs.append(program)

    def end_hogs(self):
        """Ends the busy loops."""
        for hog in self.hogs:
            hog.dispose()

    # While it runs

    def sleep(self, low, high=None):
        """For so many seconds, or somewhere between the two."""
        time.sleep(low if high is None else self.random.uniform(low, high))

    def wait(self, program, word, seconds):
        """Until a helper has printed a word; fails the run after so long."""
        deadline = time.monotonic() + seconds
        while word not in program.text(program.out_path):
            if time.monotonic() > deadline or not program.is_alive():
                self.problem(f"{program.name} did not say '{word}': {program.log()[-1:]}")
                return
            time.sleep(0.01)

    def soon(self, happens, seconds=1.0):
        """Whether it happens, asked again and again for so long."""
        deadline = time.monotonic() + seconds
        while not happens():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    @property
    def admin(self):
        """Where the distributor takes orders, if a scenario asks for it."""
        return os.path.join(self.directory, "admin.sock")

    def ctl(self, *words):
        """`weir ctl`; what it answers."""
        argv = [self.weir, "ctl", "--admin", self.admin, "--json", *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
        if done.returncode != 0:
            raise RuntimeError(f"weir ctl {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return json.loads(done.stdout)

    def status(self, host):
        """What the distributor says of an analyzer."""
        rows = self.ctl("status")["analyzers"]
        return next(row for row in rows if row["id"] == host)

    def struck(self):
        """Notes that something was done to an analyzer now: detection is timed from here."""
        self.struck_ns.append(time.monotonic_ns())

    def kill(self, host):
        """SIGKILL for the analyzer there."""
        self.struck()
        self.analyzer_killed = True
        self.analyzers[host].kill()

    def problem(self, text):
        """Fails the run."""
        self.outcome.problems.append(text)

    def expect(self, holds, text):
        """Fails the run with this text unless it holds."""
        if not holds:
            self.problem(text)

    def expect_no_death(self):
        """All links have lived to the end, and so nothing came twice."""
        downs = self.distributor.downs()
        self.expect(not downs, f"links died: {downs}")
        self.expect(self.outcome.duplicates == 0, "duplicates without a death")

    # End

    def finish(self):
        """Lets the emitters end, the distributor drain, the analyzers leave; then counts."""
        for emitter in self.emitters:
            if emitter.is_alive() and emitter.wait(EMITTER_PATIENCE) is None:
                self.problem(f"emitter {emitter.name} did not end within {EMITTER_PATIENCE} s")
        self.end_distributor()
        for host, analyzer in self.analyzers.items():
            analyzer.close_stdin()
            if analyzer.wait(END_PATIENCE) is None:
                self.problem(f"analyzer {host} did not end")
        self.count()
        return self.outcome

    def end_distributor(self, expected=0):
        """SIGTERM, and its exit status must be as expected."""
        distributor = self.distributor
        distributor.signal(signal.SIGTERM)
        status = distributor.wait(END_PATIENCE)
        said = distributor.text(distributor.out_path).splitlines()[-1:]
        self.expect(status == expected, f"{distributor.name} ended with {status}: {said}")

    def count(self):
        """Joins sent, received and delivered."""
        outcome = self.outcome
        found = books.Books(self.sent, [self.record(host) for host in self.analyzers])
        outcome.sent, outcome.delivered = found.sent, found.delivered
        outcome.duplicates = found.distinct_twice
        outcome.posted_twice = found.posted_twice(self.run_report(emitter.name) for emitter in self.emitters)
        self.expect(found.foreign == 0, f"{found.foreign} messages that nobody sent whole")
        received = self.check_distributors()
        self.tell_missing_apart(found, received)
        self.audit(found)

    def check_distributors(self):
        """Their own books; messages that they took in."""
        received = 0
        for distributor in self.distributors:
            for line in distributor.panicked():
                self.problem(line)
            closing = distributor.books()
            if closing is None:
                self.problem(f"{distributor.name} left no books")
                continue
            self.expect(closing["holds"] and closing["dropped"] == 0, f"{distributor.name}: {closing}")
            received += closing["received"]
            self.outcome.notes += [f"{who} down: {why}" for who, why, _ in distributor.downs()]
            for _, messages, detected, written in distributor.reroutes():
                if messages > 0:
                    self.outcome.rerouted += messages
                    self.outcome.reroute_ns.append(written - detected)
                    before = [at for at in self.struck_ns if at <= detected]
                    if before:
                        self.outcome.detect_ns.append(detected - before[-1])
        return received

    def tell_missing_apart(self, found, received):
        """Taken in and lost is never allowed. What a broken connection's kernels held was never taken
        in: allowed only where the scenario breaks emitters' connections, up to what they admit."""
        outcome = self.outcome
        # What was posted twice is twice in the books.
        lost = received - found.delivered - outcome.posted_twice
        reports = [emitter.report() for emitter in self.emitters]
        admitted = sum(report["lost_max"] for report in reports if report)
        if any(report is None for report in reports):
            self.problem("an emitter left no report")
        outcome.not_taken = found.missing_count - max(lost, 0)
        outcome.missing = max(lost, 0)
        if lost != 0:
            self.problem(f"taken in {received}, delivered {found.delivered}: {found.describe_missing()}")
        if outcome.not_taken > 0:
            allowed = self.may_lose_untaken and outcome.not_taken <= admitted
            if not allowed:
                outcome.missing += outcome.not_taken
                self.problem(
                    f"{outcome.not_taken} sent and never taken in (emitters admit {admitted}): "
                    + found.describe_missing()
                )

    def audit(self, found):
        """The verdict of `weir audit`, which must agree with the records."""
        outcome = self.outcome
        files = sorted(glob.glob(os.path.join(self.directory, "*.json")))
        files += sorted(glob.glob(os.path.join(self.directory, "*.json.journal")))
        done = subprocess.run([self.weir, "audit", "--json", *files], capture_output=True, text=True)
        if done.returncode not in (0, 1):
            self.problem(f"weir audit: {done.stderr.strip()[:300]}")
            return
        verdict = json.loads(done.stdout)
        self.expect(verdict["balanced"], f"weir audit: {[found['text'] for found in verdict['findings']]}")
        absent = verdict["missing"]["messages"] + verdict["lost_on_the_way"]["messages"]
        for name, theirs, ours in (
            ("delivered", verdict["delivered"], found.delivered),
            ("twice", verdict["twice"], found.distinct_twice),
            ("absent", absent, found.missing_count),
            ("twice as said", verdict["twice_as_said"], outcome.posted_twice),
        ):
            agree = theirs == ours
            # Before an ACK the journal is written, then the records: SIGKILL in between leaves messages in
            # the journal alone, and as they were never ACKed they come a second time.
            if name.startswith("twice") and self.analyzer_killed:
                agree = theirs >= ours
            self.expect(agree, f"weir audit says {name} {theirs}, records say {ours}")
        outcome.recognisable = self.dialect == "native"
        outcome.recognised = verdict["twice"] - verdict["unrecognised"]["messages"]

    def dispose(self, keep):
        """Ends whatever is left and removes the hosts; the files too unless they are to be kept."""
        for program in self.programs:
            program.dispose()
        self.net.down()
        if not keep:
            shutil.rmtree(self.directory, ignore_errors=True)
