# shellcheck shell=bash disable=SC2034,SC2153
TITLE="cores of Weir's own: an isolated cpuset"
OPT_IN=yes
WHY="A core that other processes may use as well is taken away for milliseconds at a time: each is latency for every
connection of its shard. An isolated partition of control group v2 takes the cores named by --cores out of the scheduler's
balancing and gives them to nobody but the group weir.slice. Unlike isolcpus it needs no boot, and can be undone."
GAIN="Not measured here (this kind of cpuset is not available where Weir is measured). Sourced: cgroup-v2.rst, isolated
partitions behave as isolcpus= does."
RISK="Everybody else loses these cores, so this stage is only done when it is named. Weir must then run in weir.slice
(systemd/examples/isolate.conf, or systemd-run --scope --slice=weir.slice): elsewhere --cores is refused, because these
cores are not available there. systemd must know of the cores as well (systemd/examples/weir-slice.conf), or it may take the
controller away again. Stop Weir before this is reverted: a group with processes cannot be removed. Nothing balances load
within the partition: right for pinned shards, wrong for anything else in the slice."
SOURCES="Documentation/admin-guide/cgroup-v2.rst (Cpuset), systemd.slice(5)"

settings() {
    local root=/sys/fs/cgroup group=/sys/fs/cgroup/weir.slice list=LIST
    if [[ $ACTION != explain ]]; then
        if [[ " $(first_line $root/cgroup.controllers) " != *' cpuset '* ]]; then
            skip "no control group v2 with cpuset at $root"
            return
        fi
        if [[ ${#OTHER_CPUS[@]} -eq 0 ]]; then
            skip "no --cores, or all of them: somebody else needs a core as well"
            return
        fi
        list=$(list_of_cpus "${WEIR_CPUS[@]}")
    fi
    want controller $root/cgroup.subtree_control cpuset "cgroup-v2.rst: children of the root have the controllers named here"
    want directory $group there "systemd.slice(5): the unit weir.slice is this group"
    MEANING="the cores of --cores" want_in_group cpus cpuset.cpus "$list" "cgroup-v2.rst: the cores of the group"
    want_in_group choice cpuset.cpus.partition isolated "cgroup-v2.rst: out of the balancing, for nobody else"
}

# Before the group is there, what will be in it can only be announced.
want_in_group() {
    local file=/sys/fs/cgroup/weir.slice/$2
    if [[ $ACTION != explain ]] && ! has /sys/fs/cgroup/weir.slice; then
        differs "$file" "not there" "$3"
        return
    fi
    want "$1" "$file" "$3" "$4"
}
