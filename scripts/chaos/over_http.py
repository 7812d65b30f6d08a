"""Scenarios with analyzers and clients over HTTP. As in `scenarios.py`, each gets a rig without load."""

import signal

from rig import HTTP_PORT
from scenarios import HTTP, analyzers, scenario

# Emitters over TCP and HTTP at once: what came by TCP is joined to packets, a packet goes whole.
RATE = 3_000
BATCH = 20


def emit_both(rig, seconds):
    """Load from both sides, for so long."""
    rig.emit(name="h", rate=RATE, seconds=seconds, batch=BATCH, http=True)
    rig.emit(name="t", rate=RATE, seconds=seconds)


@scenario("http-kill9", "SIGKILL for one analyzer over HTTP, for two, for all; each is started again", variants=HTTP)
def http_kill9(rig):
    rig.distribute()
    # Each takes a while for a packet, so that it dies with some in hand.
    rig.analyze_all("--delay", "100us")
    emit_both(rig, seconds=5.0)
    for number in (1, 2, 3):
        rig.sleep(0.4, 0.7)
        victims = rig.random.sample(analyzers(rig), number)
        ups = {host: rig.ups(host) for host in victims}
        for host in victims:
            rig.kill(host)
        rig.sleep(0.3, 0.6)
        for host in victims:
            rig.analyze(host, "--delay", "100us")
        for host in victims:
            rig.wait_ups(host, ups[host] + rig.shards)
    rig.finish()
    rig.expect(rig.outcome.rerouted > 0, "nothing was re-routed: the scenario did not bite")


@scenario(
    "http-stop-distributor",
    "SIGSTOP for the distributor for 7 s, every time-out of HTTP 2 to 5 s: neither analyzers nor clients are judged by it",
    variants=HTTP,
)
def http_stop_distributor(rig):
    rig.distribute(
        "--http-timeout=2s", "--health-timeout=2s", "--http-request-timeout=5s", "--http-idle-timeout=5s",
        "--ack-timeout=5s", "--frame-timeout=5s",
    )
    rig.analyze_all("--delay", "100us")
    emit_both(rig, seconds=9.0)
    connections, packets = 4, 40
    waiter = rig.helper("waiter", "e", "w", connections, packets, BATCH, rig.run_report("w"), port=HTTP_PORT)
    rig.sent |= {f"w/{index}": packets * BATCH for index in range(connections)}
    rig.sleep(0.4, 0.8)
    rig.distributor.signal(signal.SIGSTOP)
    rig.sleep(7.0)
    rig.distributor.signal(signal.SIGCONT)
    rig.wait(waiter, "all acked", 30)
    rig.finish()
    rig.expect_no_death()
    for emitter in rig.emitters:
        report = emitter.report() or {}
        rig.expect(report.get("broken") == 0, f"connections of {emitter.name} broke: {report}")


@scenario(
    "http-restart", "SIGTERM for the distributor under load from HTTP emitters and a new one on the same ports, twice",
    variants=HTTP,
)
def http_restart(rig):
    rig.distribute()
    rig.analyze_all("--delay", "100us")
    emit_both(rig, seconds=6.0)
    for _ in range(2):
        rig.sleep(0.6, 1.0)
        rig.end_distributor()
        rig.distribute()
        rig.wait_up(analyzers(rig))
    rig.finish()
    # An answer may be lost with its connection; whoever sent such a packet again says so.
    rig.expect(
        rig.outcome.duplicates <= rig.outcome.posted_twice,
        f"{rig.outcome.duplicates} came twice, emitters name {rig.outcome.posted_twice}",
    )
