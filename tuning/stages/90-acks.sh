# shellcheck shell=bash disable=SC2034
TITLE="TCP ACKs when packets arrive, not when the shard reads"
OPT_IN=yes
WHY="The kernel holds a connection's ACK back until the program reads, and then sends it from there: on the shard's core, one
for each read. With thousands of quiet emitters that is four tenths of a shard's CPU time; with busy ones, emitters wait for
their windows. A route with quickack has each packet ACKed as it arrives, by the core that takes the interrupt. Routes
through the interfaces of --nic are changed, and those of this host to itself."
GAIN="Measured on loopback with the stage (docs/BENCHMARKS.md): CPU of the distributor 0.80 x at the firehose, 0.85 x with 5,000
quiet connections. There the emitter's core takes the ACKs over; on a NIC it is the core of the interrupt. Not measured: a NIC."
RISK="More ACK packets: one for each batch of packets that the interface hands up, also for downloads of other programs over
these routes. It counts for connections made later. Who manages the routes (a DHCP client, networkd, a routing daemon) may
write them again without it: say it there instead (systemd.network(5): QuickAck= in [Route])."
SOURCES="ip-route(8), systemd.network(5), tcp(7) (TCP_QUICKACK)"

settings() {
    local why="ip-route(8): quickack" nic what
    if [[ $ACTION == explain ]]; then
        want route "route:main:NIC:each" quickack "$why"
        want route "route:local:lo:each" quickack "$why"
        return
    fi
    if ! tool ip >/dev/null; then
        skip "no program ip (iproute2)"
        return
    fi
    for nic in "${NICS[@]}"; do
        for what in $(routes_of main "$nic"); do want route "$what" quickack "$why"; done
    done
    for what in $(routes_of local lo); do want route "$what" quickack "$why"; done
}
