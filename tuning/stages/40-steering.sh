# shellcheck shell=bash disable=SC2034
TITLE="packets to cores: RPS, RFS, XPS"
WHY="With fewer receive queues than cores that could do the work, one core does the TCP of all connections. RPS spreads
it by a hash: with --cores over the others, which leaves shards nothing but the copy; without, over all, and RFS then takes
each packet to the core whose shard reads the connection. With a queue for each core RPS only costs, and is switched off.
XPS gives each sending queue cores of its own, so that they do not wait for each other's lock."
GAIN="Not measured here. scaling.rst: RPS lets a single queue serve several cores; RFS raises the hit rate of their caches."
RISK="Each packet that moves costs an interrupt between two cores: at low rates RPS costs more than it brings."
SOURCES="Documentation/networking/scaling.rst"

settings() {
    local nic queue n cpus mask queues
    if [[ $ACTION == explain ]]; then
        MEANING="fewer queues than cores for it: these cores. Else 0" \
            want mask /sys/class/net/NIC/queues/rx-N/rps_cpus 0 "scaling.rst, RPS, suggested configuration"
        MEANING="without --cores: at least $RFS_ENTRIES_MIN" \
            want minimum /proc/sys/net/core/rps_sock_flow_entries "$RFS_ENTRIES_MIN" "scaling.rst, RFS: for a moderately loaded server"
        MEANING="without --cores: at least $RFS_ENTRIES_MIN / queues" \
            want minimum /sys/class/net/NIC/queues/rx-N/rps_flow_cnt "$RFS_ENTRIES_MIN" "scaling.rst, RFS: the entries, divided by the queues"
        MEANING="two queues or more: each its own cores, in turn" \
            want mask /sys/class/net/NIC/queues/tx-N/xps_cpus 0 "scaling.rst, XPS: as few cores to a queue as can be"
        return
    fi
    cpus=("${OTHER_CPUS[@]}")
    [[ ${#cpus[@]} -gt 0 ]] || cpus=("${ONLINE[@]}")
    for nic in "${NICS[@]}"; do
        queues=$(queues_of_nic "$nic" rx)
        mask=0
        [[ $queues -ge ${#cpus[@]} ]] || mask=$(mask_of_cpus "${cpus[@]}")
        for ((n = 0; n < queues; n++)); do
            want mask "/sys/class/net/$nic/queues/rx-$n/rps_cpus" "$mask" ""
        done
        if [[ ${#OTHER_CPUS[@]} -eq 0 && $queues -gt 0 ]]; then
            want minimum /proc/sys/net/core/rps_sock_flow_entries "$RFS_ENTRIES_MIN" ""
            for ((n = 0; n < queues; n++)); do
                want minimum "/sys/class/net/$nic/queues/rx-$n/rps_flow_cnt" $((RFS_ENTRIES_MIN / queues)) ""
            done
        fi
        spread_senders "$nic"
    done
}

# Core i of all sends on queue i modulo their number.
spread_senders() {
    local count n cpu mine
    count=$(queues_of_nic "$1" tx)
    [[ $count -gt 1 ]] || return 0
    for ((n = 0; n < count; n++)); do
        mine=()
        for cpu in "${!ONLINE[@]}"; do
            [[ $((cpu % count)) -eq $n ]] && mine+=("${ONLINE[cpu]}")
        done
        want mask "/sys/class/net/$1/queues/tx-$n/xps_cpus" "$(mask_of_cpus "${mine[@]}")" ""
    done
}
