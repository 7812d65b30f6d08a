# shellcheck shell=bash disable=SC2034
TITLE="clock rate and sleep of the cores"
WHY="A core of Weir's sleeps between batches. A governor that lowers the clock when a core is often idle makes the next
batch slow, and a core in a deep C-state needs 100 us and more to come back: a fifth of the default latency budget. A limit
for the resume latency of Weir's cores leaves deep sleep to the others."
GAIN="Not measured here (a virtual machine has neither). Sourced: C6 takes above 100 us to leave on Intel's servers, C1E
about 10 us (drivers/idle/intel_idle.c)."
RISK="More power and heat; with all cores awake the turbo clock may be lower. Virtual machines have neither file."
SOURCES="Documentation/admin-guide/pm/cpufreq.rst and cpuidle.rst (power/pm_qos_resume_latency_us: meant for a process
that is pinned to the CPU)"

settings() {
    local cpu dir
    [[ $ACTION != explain ]] || local WEIR_CPUS=(N)
    for cpu in "${WEIR_CPUS[@]}"; do
        dir=/sys/devices/system/cpu/cpu$cpu
        want choice "$dir/cpufreq/scaling_governor" performance "cpufreq.rst: always the highest frequency that is allowed"
        # Without states there is nothing to leave.
        [[ $ACTION == explain ]] || has "$dir/cpuidle/state1" || continue
        want ceiling "$dir/power/pm_qos_resume_latency_us" "$EXIT_LATENCY_US_MAX" "a tenth of the default latency budget; between C1E and C6"
    done
}
