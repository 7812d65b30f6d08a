"""What is done to a running system. Each function gets a started `rig.Rig` without load, brings its own
load and its own trouble, and leaves the verdict to `Rig.finish`, besides what it expects itself.
"""

import dataclasses
import os
import shutil
import signal
import typing

NATIVE = [(1, "native"), (2, "native"), (3, "native")]
HTTP = [(1, "http"), (2, "http"), (3, "http")]
BOTH = [(1, "native"), (2, "compact"), (2, "native"), (1, "compact"), (3, "mixed")]


class Skip(Exception):
    """Cannot be done here; the text says why."""


@dataclasses.dataclass
class Scenario:
    """A name, what it does, and the variants that its runs go through in turn."""

    name: str
    what: str
    play: typing.Callable
    variants: list
    tools: tuple = ()


SCENARIOS = []


def scenario(name, what, variants=None, tools=()):
    """Registers the function below."""

    def register(play):
        SCENARIOS.append(Scenario(name, what, play, variants or BOTH, tools))
        return play

    return register


def analyzers(rig):
    """Hosts with analyzers."""
    return rig.analyzer_hosts()


@scenario("kill9-analyzer", "SIGKILL for one analyzer, then for two at once; each is started again")
def kill9_analyzer(rig):
    rig.distribute()
    rig.analyze_all()
    rig.emit(seconds=3.0)
    for number in (1, 2, 1):
        rig.sleep(0.4, 0.7)
        victims = rig.random.sample(analyzers(rig), number)
        for host in victims:
            rig.kill(host)
        rig.sleep(0.1, 0.3)
        for host in victims:
            rig.analyze(host)
    rig.finish()
    rig.expect(rig.outcome.rerouted > 0, "nothing was re-routed: the scenario did not bite")


@scenario("kill9-all", "SIGKILL for every analyzer at once; they come back after half a second")
def kill9_all(rig):
    rig.distribute()
    rig.analyze_all()
    rig.emit(seconds=2.5)
    rig.sleep(0.5, 0.9)
    for host in analyzers(rig):
        rig.kill(host)
    rig.sleep(0.5)
    for host in analyzers(rig):
        rig.analyze(host)
    rig.finish()
    rig.expect(rig.outcome.rerouted > 0, "nothing was re-routed: the scenario did not bite")


@scenario("stop-cont-short", "SIGSTOP for 1.2 s, less than --ack-timeout (6 s): the link must survive")
def stop_cont_short(rig):
    rig.distribute("--ack-timeout=6s")
    rig.analyze_all()
    rig.emit(seconds=3.0)
    rig.sleep(0.4, 0.8)
    host = rig.random.choice(analyzers(rig))
    rig.analyzers[host].signal(signal.SIGSTOP)
    rig.sleep(1.2)
    rig.analyzers[host].signal(signal.SIGCONT)
    rig.finish()
    rig.expect_no_death()


@scenario("stop-cont-long", "SIGSTOP for 4 s, longer than --ack-timeout (1 s): re-routed, and it comes back")
def stop_cont_long(rig):
    rig.distribute("--ack-timeout=1s")
    rig.analyze_all()
    rig.emit(rate=20_000, seconds=5.5)
    rig.sleep(0.3, 0.7)
    host = rig.random.choice(analyzers(rig))
    rig.struck()
    rig.analyzers[host].signal(signal.SIGSTOP)
    rig.sleep(4.0)
    rig.analyzers[host].signal(signal.SIGCONT)
    rig.finish()
    rig.expect(rig.outcome.rerouted > 0, "nothing was re-routed: the scenario did not bite")


@scenario("link-flap", "an analyzer's link is down for 1 s: TCP repairs it, the link must survive")
def link_flap(rig):
    rig.distribute()
    rig.analyze_all()
    rig.emit(seconds=3.5)
    rig.sleep(0.3, 0.7)
    host = rig.random.choice(analyzers(rig))
    rig.net.link_down(host)
    rig.sleep(1.0)
    rig.net.link_up(host)
    rig.finish()
    rig.expect_no_death()


@scenario("link-down", "an analyzer's link is down for 7 s, longer than --peer-timeout (4 s)")
def link_down(rig):
    rig.distribute()
    rig.analyze_all()
    rig.emit(rate=15_000, seconds=9.0)
    rig.sleep(0.3, 0.7)
    host = rig.random.choice(analyzers(rig))
    rig.struck()
    rig.net.link_down(host)
    rig.sleep(7.0)
    rig.net.link_up(host)
    rig.finish()
    rig.expect(rig.outcome.rerouted > 0, "nothing was re-routed: the scenario did not bite")


@scenario("vanish-analyzer", "nftables drops all of an analyzer's packets for 7 s, or for good", tools=("nft",))
def vanish_analyzer(rig):
    rig.distribute()
    rig.analyze_all()
    rig.emit(rate=15_000, seconds=9.0)
    rig.sleep(0.3, 0.7)
    host = rig.random.choice(analyzers(rig))
    rig.struck()
    rig.net.vanish(host)
    if rig.random.random() < 0.5:
        # It dies unheard: no end of stream, no reset.
        rig.analyzers[host].kill()
    rig.sleep(7.0)
    rig.net.heal(host)
    rig.finish()
    rig.expect(rig.outcome.rerouted > 0, "nothing was re-routed: the scenario did not bite")


@scenario("vanish-emitter", "nftables drops all of an emitter's packets for 7 s, longer than --peer-timeout", tools=("nft",))
def vanish_emitter(rig):
    rig.may_lose_untaken = True
    rig.distribute()
    rig.analyze_all()
    rig.emit(rate=15_000, seconds=8.5)
    gone = rig.emit(name="f", host="f", rate=5_000, seconds=9.0)
    rig.sleep(0.3, 0.7)
    rig.net.vanish("f")
    rig.sleep(7.0)
    rig.net.heal("f")
    rig.finish()
    report = gone.report() or {}
    rig.expect(report.get("reconnects", 0) > 0, f"it never connected again: {report}")


vanish_emitter.hosts = ("e", "f", "a1", "a2", "a3")


@scenario("reset-analyzer", "connections to analyzers are reset in turn, on one side or the other", tools=("nft",))
def reset_analyzer(rig):
    rig.distribute()
    rig.analyze_all()
    rig.emit(seconds=3.5)
    for host in analyzers(rig):
        rig.sleep(0.3, 0.6)
        rig.struck()
        if rig.random.random() < 0.5:
            was_reset = rig.soon(lambda host=host: rig.net.reset(host, 8081) > 0)
            rig.expect(was_reset, f"no connection with {host} was reset")
        else:
            rig.net.reject(host)
            rig.sleep(0.1)
            rig.net.heal(host)
    rig.finish()
    rig.expect(rig.outcome.rerouted > 0, "nothing was re-routed: the scenario did not bite")


@scenario("reset-emitter", "all connections of an emitter are reset, twice: what was taken in is delivered")
def reset_emitter(rig):
    rig.may_lose_untaken = True
    rig.distribute()
    rig.analyze_all()
    emitter = rig.emit(seconds=3.0)
    for _ in range(2):
        rig.sleep(0.5, 0.9)
        # On a busy machine the emitter may not be there yet.
        rig.expect(rig.soon(lambda: rig.net.reset("e", 8080) > 0), "no connection was reset")
    rig.finish()
    report = emitter.report() or {}
    rig.expect(report.get("broken", 0) > 0, f"nothing broke: {report}")


@scenario("full-window", "an analyzer with a small receive buffer that takes 2 ms a message: its window is shut most of the time")
def full_window(rig):
    slow = "a1"
    rig.net.sysctl(slow, net_ipv4_tcp_rmem="4096 16384 32768")
    rig.distribute("--window=256KiB", "--peer-timeout=20s", "--ack-timeout=20s")
    rig.analyze(slow, "--delay", "2ms", ack_every=50)
    for host in analyzers(rig)[1:]:
        rig.analyze(host)
    rig.wait_up(analyzers(rig))
    rig.emit(rate=15_000, seconds=4.0)
    rig.finish()
    rig.expect_no_death()


@scenario("shut-window", "an analyzer reads nothing for 7 s though its host answers; longer than --peer-timeout, shorter than --ack-timeout")
def shut_window(rig):
    rig.distribute("--window=256KiB", "--ack-timeout=30s")
    rig.analyze_all()
    rig.emit(rate=15_000, seconds=9.0)
    rig.sleep(0.3, 0.7)
    host = rig.random.choice(analyzers(rig))
    rig.struck()
    rig.analyzers[host].signal(signal.SIGSTOP)
    rig.sleep(7.0)
    rig.analyzers[host].signal(signal.SIGCONT)
    rig.finish()


@scenario("restart-distributor", "SIGTERM for the distributor under load and a new one on the same ports, twice")
def restart_distributor(rig):
    rig.distribute()
    rig.analyze_all()
    rig.emit(seconds=5.0)
    for _ in range(2):
        rig.sleep(0.6, 1.0)
        rig.end_distributor()
        rig.distribute()
    rig.finish()


@scenario("stop-distributor", "SIGSTOP for the distributor for 7 s, ACK timeout 5 s: nobody may be judged by its sleep")
def stop_distributor(rig):
    rig.distribute("--ack-timeout=5s")
    rig.analyze_all()
    rig.emit(rate=15_000, seconds=9.0)
    rig.sleep(0.4, 0.8)
    rig.distributor.signal(signal.SIGSTOP)
    rig.sleep(7.0)
    rig.distributor.signal(signal.SIGCONT)
    rig.finish()
    rig.expect_no_death()


@scenario("drain-flap", "SIGTERM for the distributor under load while analyzers are killed and come back")
def drain_flap(rig):
    rig.distribute()
    rig.analyze_all()
    rig.emit(seconds=2.5)
    rig.sleep(0.6, 1.0)
    for host in analyzers(rig):
        rig.kill(host)
    rig.distributor.signal(signal.SIGTERM)
    # Emitters are told to go within the farewell; analyzers come when it drains.
    rig.sleep(0.2, 1.5)
    for host in analyzers(rig):
        rig.analyze(host)
    status = rig.distributor.wait(25)
    rig.expect(status == 0, f"it abandoned something: status {status}")
    rig.distribute()
    rig.finish()
    rig.expect(rig.outcome.rerouted > 0, "nothing was re-routed: the scenario did not bite")


@scenario("nofile", "a crowd takes all descriptors of a small limit while analyzers die and come back")
def nofile(rig):
    limit = 512 + 100
    rig.distribute(f"--admin={rig.admin}", prefix=("prlimit", f"--nofile={limit}:{limit}"))
    rig.analyze_all()
    rig.emit(seconds=4.0, connections=40)
    is_in = rig.soon(lambda: rig.ctl("status")["totals"]["emitters"] == 40, 10)
    rig.expect(is_in, "the emitter is not connected before the crowd comes")
    # More than there can be: most of the descriptors are for emitters.
    # Over TLS who is silent has a place of a handshake for a second, and those are few: each begins with a frame.
    crowd = rig.helper("crowd", "e", limit, *(["00"] if rig.tls else []))
    rig.wait(crowd, "full", 20)
    host = rig.random.choice(analyzers(rig))
    rig.kill(host)
    rig.analyze(host)
    rig.sleep(1.0)
    crowd.kill()
    rig.sleep(0.3)
    # The places of the crowd are free again.
    late = rig.emit(name="late", rate=5_000, seconds=0.5, connections=50)
    rig.expect(late.wait(20) == 0, "an emitter that came after the crowd could not send")
    rig.finish()
    rig.expect(rig.distributor.count("connection_limit") > 0, "the limit was not hit")


@scenario("small-arena", "flooded with 3 MiB of arena and 256 KiB of receive memory while analyzers are killed")
def small_arena(rig):
    rig.distribute("--arena=3MiB", "--max-frame=64KiB", "--ingress=256KiB", "--partial-bytes=512KiB")
    rig.analyze_all()
    rig.emit(rate=60_000, seconds=2.5, batch=16, size=400)
    for _ in range(3):
        rig.sleep(0.4, 0.6)
        host = rig.random.choice(analyzers(rig))
        rig.kill(host)
        rig.sleep(0.1)
        rig.analyze(host)
    rig.finish()


@scenario("memlock", "8 MiB may be locked and the arena has 32: sends are copied, analyzers are killed", tools=("setpriv",))
def memlock(rig):
    rig.distribute(
        "--arena=32MiB",
        prefix=("prlimit", f"--memlock={8 << 20}:{8 << 20}", "setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"),
    )
    rig.analyze_all()
    rig.emit(seconds=2.5)
    rig.sleep(0.6, 0.9)
    host = rig.random.choice(analyzers(rig))
    rig.kill(host)
    rig.sleep(0.1)
    rig.analyze(host)
    rig.finish()
    warned = any("RLIMIT_MEMLOCK" in line for line in rig.distributor.log())
    rig.expect(warned, "no warning that memory cannot be locked: the limit was not hit")


@scenario("starved", "busy loops leave a distributor of lowest priority a sliver of its cores for 10 s")
def starved(rig):
    rig.distribute()
    rig.analyze_all()
    rig.distributor.renice(19)
    for core in range(os.cpu_count() or 1):
        for _ in range(3):
            rig.hog(str(core))
    rig.emit(rate=2_000, seconds=10.0)
    rig.sleep(10.5)
    rig.end_hogs()
    rig.distributor.renice(0)
    rig.finish()
    rig.expect(not rig.distributor.downs(), f"links died: {rig.distributor.downs()}")


class Cgroup:
    """A memory group of version 1 whose TCP memory is limited; version 2 cannot limit it alone."""

    ROOT = "/sys/fs/cgroup/memory"

    def __init__(self, name):
        self.path = os.path.join(self.ROOT, name)

    def make(self, tcp_bytes):
        """Makes it with a limit on socket memory."""
        if not os.path.exists(os.path.join(self.ROOT, "memory.kmem.tcp.limit_in_bytes")):
            raise Skip("needs the memory controller of cgroup version 1 (memory.kmem.tcp)")
        os.mkdir(self.path)
        with open(os.path.join(self.path, "memory.kmem.tcp.limit_in_bytes"), "w") as file:
            file.write(str(tcp_bytes))

    def was_hit(self):
        """Whether the limit was reached; the kernel's own count of failures does not count sockets."""
        values = []
        for name in ("max_usage", "limit"):
            with open(os.path.join(self.path, f"memory.kmem.tcp.{name}_in_bytes")) as file:
                values.append(int(file.read()))
        return values[0] >= values[1]

    def remove(self):
        """Removes it, when no process is in it."""
        if os.path.isdir(self.path):
            os.rmdir(self.path)


@scenario("socket-memory", "the kernel refuses the distributor more than 128 KiB of socket memory (cgroup)")
def socket_memory(rig):
    group = Cgroup(rig.net.tag)
    group.make(128 << 10)
    try:
        script = f'echo $$ > {group.path}/cgroup.procs && exec "$@"'
        rig.distribute(outer=("sh", "-c", script, "sh"))
        rig.analyze_all()
        rig.emit(rate=60_000, seconds=2.0, batch=64, size=400, connections=32)
        rig.sleep(0.5, 0.8)
        host = rig.random.choice(analyzers(rig))
        rig.kill(host)
        rig.sleep(0.1)
        rig.analyze(host)
        rig.finish()
        rig.expect(group.was_hit(), "the limit was not hit")
    finally:
        for distributor in rig.distributors:
            distributor.dispose()
        group.remove()


@scenario("emitter-kill9", "emitters are killed in the middle of a frame: whole frames arrive, the cut one does not")
def emitter_kill9(rig):
    rig.distribute()
    rig.analyze_all()
    rig.emit(seconds=2.5)
    for number in range(4):
        size = rig.random.choice((200, 3_000, 100_000))
        connections, frames = 4, rig.random.choice((1, 30))
        name = f"cut{number}"
        cutter = rig.helper("cutter", "e", name, connections, frames, size, rig.run_report(name))
        rig.wait(cutter, "cut", 20)
        cutter.kill()
        for index in range(connections):
            rig.sent[f"{name}/{index}"] = frames
    rig.finish()


def named(name):
    """The scenario of this name; None if there is none."""
    return next((s for s in SCENARIOS if s.name == name), None)


def lacks(scenario_):
    """A tool that this machine lacks for it; None if it has all."""
    return next((tool for tool in scenario_.tools if shutil.which(tool) is None), None)
