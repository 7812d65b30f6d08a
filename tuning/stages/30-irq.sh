# shellcheck shell=bash disable=SC2034
TITLE="interrupts and queues of the network interfaces"
WHY="An interrupt on a core of Weir's takes time from its shard, at moments that nobody chooses. With --cores, all
interrupts go to the other cores, and the interface has a queue for each of these. Without --cores there are no others:
then each queue has a core of its own, so that no core serves all of them."
GAIN="Not measured here (loopback has no interrupts). Seastar came to the same rule: cores for interrupts alone whenever
they can be spared, for the high percentiles, even where the load could be spread evenly (perftune.py, seastar issue 729)."
RISK="Too few other cores become the bottleneck: watch their softirq time (mpstat -P ALL). Changing the number of queues
resets some interfaces: a second or more without traffic. irqbalance moves interrupts back: stop it, or ban Weir's cores
(IRQBALANCE_BANNED_CPULIST)."
SOURCES="Documentation/core-api/irq/irq-affinity.rst, Documentation/networking/scaling.rst, ethtool(8)"

settings() {
    local nic irq cpu n=0 within others=0 of_nics=' '
    if [[ $ACTION == explain ]]; then
        MEANING="as many as cores for interrupts, at least" \
            want channels nic:NIC:combined 1 "scaling.rst: one queue for each core that serves the interface"
        MEANING="with --cores: the others. Else: a core for each queue" \
            want irq /proc/irq/N/smp_affinity_list 0 "irq-affinity.rst; perftune.py"
        MEANING="with --cores: the others" \
            want mask /proc/irq/default_smp_affinity 0 "irq-affinity.rst: interrupts that come later"
        return
    fi
    local cpus=("${OTHER_CPUS[@]}")
    [[ ${#cpus[@]} -gt 0 ]] || cpus=("${ONLINE[@]}")
    others=${#OTHER_CPUS[@]}
    within=$(list_of_cpus "${cpus[@]}")
    for nic in "${NICS[@]}"; do
        local most
        most=$(show_channels "nic:$nic:combined" max)
        [[ -n $most && $most -lt ${#cpus[@]} ]] || most=${#cpus[@]}
        want channels "nic:$nic:combined" "$most" ""
    done
    for nic in "${NICS[@]}"; do
        for irq in $(irqs_of_nic "$nic"); do
            cpu=${cpus[n % ${#cpus[@]}]}
            n=$((n + 1))
            of_nics+="$irq "
            want irq "/proc/irq/$irq/smp_affinity_list" "$cpu|$cpu" ""
        done
    done
    [[ $others -gt 0 ]] || return 0
    for irq in $(irqs_in_use); do
        [[ $of_nics == *" $irq "* ]] || want irq "/proc/irq/$irq/smp_affinity_list" "$within|$within" ""
    done
    want mask /proc/irq/default_smp_affinity "$(mask_of_cpus "${cpus[@]}")" ""
}
