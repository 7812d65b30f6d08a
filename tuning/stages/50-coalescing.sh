# shellcheck shell=bash disable=SC2034
TITLE="interrupt coalescing and busy poll"
WHY="An interrupt for each packet costs more than the packet. Where the driver can adapt the pause between interrupts to
the traffic, it does so: short when it is quiet, long under load. Weir gathers sparse traffic itself (--latency-budget) in
any case. Busy polling by sysctl spins in blocking reads of every program: Weir never blocks in one, so it
gains nothing, and what spins beside it takes its time."
GAIN="Not measured here (loopback has no interrupts). FACTS of Weir's design: messages per receive decide the cost, and a
longer pause means more of them."
RISK="Adaptive coalescing may add some tens of microseconds to a lone message."
SOURCES="ethtool(8), Documentation/networking/net_dim.rst, Documentation/admin-guide/sysctl/net.rst (busy_read, busy_poll)"

settings() {
    local nic
    [[ $ACTION != explain ]] || local NICS=(NIC)
    for nic in "${NICS[@]}"; do
        want coalesce "nic:$nic:adaptive-rx" on "net_dim.rst: the driver moderates its interrupts by what arrives"
        want coalesce "nic:$nic:adaptive-tx" on "net_dim.rst: the same for sends"
    done
    want number /proc/sys/net/core/busy_read 0 "net.rst: the default, off; only blocking reads use it, and Weir has none"
    want number /proc/sys/net/core/busy_poll 0 "net.rst: the default, off; only poll and select use it, and shards do not"
}
