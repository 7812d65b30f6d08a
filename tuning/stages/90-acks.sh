# shellcheck shell=bash disable=SC2034
TITLE="TCP ACKs when packets arrive, not when the shard reads"
OPT_IN=yes
WHY="The kernel holds a connection's ACK back until the program reads, and then sends it from there: on the shard's core, one
for each read. With thousands of quiet emitters that is four tenths of a shard's CPU time; with busy ones, emitters wait for
their windows. A route with quickack has each packet ACKed as it arrives, by the core that takes the interrupt. Routes
through the interfaces of --nic are changed, and that of loopback. A bond, a bridge or a VLAN is an interface of its own:
name it."
GAIN="Measured on loopback (docs/BENCHMARKS.md): CPU of the distributor 0.86 x at the firehose (8 rounds), 0.82 x with 5,000
quiet connections (6 rounds). There the emitter's core takes the ACKs over; on a NIC it is the core of the interrupt: not
measured."
RISK="Destinations that the table has twice are left alone. More ACK packets: one for each batch of packets that the interface hands up, also for downloads of other programs over
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
