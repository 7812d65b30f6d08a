"""Orders of an operator while links break: what was ordered belongs to the analyzer and outlives its links
(`docs/adr/0030-what-is-said-of-an-analyzer-outlives-its-links.md`)."""

from scenarios import analyzers, scenario

VARIANTS = [(2, "native"), (1, "http"), (3, "native"), (2, "http"), (1, "native")]
WEIGHT_PINNED = 0.75
# Longer than reports and orders take to be everywhere.
SETTLED = 0.6


def break_links(rig, host):
    """Breaks what leads to an analyzer, and waits until it is back: one link, all of them, or the process."""
    ways = ("kill",) if rig.is_http else ("one", "all", "kill")
    way, ups = rig.random.choice(ways), rig.ups(host)
    if way == "kill":
        rig.kill(host)
        # Long enough for a health check to see it.
        rig.sleep(0.5 if rig.is_http else 0.1)
        rig.analyze(host)
        return rig.wait_ups(host, ups + rig.shards)
    rig.struck()
    peers = rig.net.peers(host, 8081)
    if way == "one":
        peers = [rig.random.choice(peers)]
    for peer in peers:
        rig.net.reset(host, 8081, peer)
    return rig.wait_ups(host, ups + len(peers))


def expect_given(rig, host, some):
    """Whether an analyzer is given messages now."""
    rig.sleep(SETTLED)
    before = rig.status(host)["assigned"]
    rig.sleep(SETTLED)
    given = rig.status(host)["assigned"] - before
    rig.expect((given > 0) == some, f"{host} was given {given} messages: {rig.status(host)['standing']}")


@scenario(
    "order-flap", "analyzers are drained, pinned, ejected and resumed while their links break: the order outlives the links",
    variants=VARIANTS,
)
def order_flap(rig):
    rig.distribute(f"--admin={rig.admin}")
    rig.analyze_all()
    rig.emit(rate=6_000, seconds=24.0, batch=20, http=rig.is_http)
    drained, pinned, ejected = rig.random.sample(analyzers(rig), 3)
    rig.sleep(0.3, 0.6)
    rig.ctl("drain", drained)
    rig.ctl("weight", pinned, str(WEIGHT_PINNED), "--pin")
    for _ in range(3):
        for host in (drained, pinned):
            break_links(rig, host)
        expect_given(rig, drained, some=False)
        row = rig.status(pinned)
        rig.expect(
            row["pinned"] and row["weight"] == WEIGHT_PINNED, f"{pinned} is not pinned to {WEIGHT_PINNED}: {row}"
        )
    rig.ctl("resume", drained)
    rig.ctl("unpin", pinned)
    rig.struck()
    ups = rig.ups(ejected)
    rig.ctl("eject", ejected)
    if rig.is_http:
        # It is well and stays out, whoever it is by now, until it is resumed.
        rig.kill(ejected)
        rig.analyze(ejected)
        expect_given(rig, ejected, some=False)
        rig.ctl("resume", ejected)
    rig.wait_ups(ejected, ups + rig.shards)
    for host in analyzers(rig):
        expect_given(rig, host, some=True)
    rig.expect(not rig.status(pinned)["pinned"], f"{pinned} is still pinned")
    rig.expect(any(emitter.is_alive() for emitter in rig.emitters), "the load ended too early: nothing was shown")
    rig.finish()
