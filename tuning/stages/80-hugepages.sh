# shellcheck shell=bash disable=SC2034
TITLE="huge pages and NUMA"
WHY="The arena and the receive memory are walked all the time, and Weir asks for huge pages there (madvise): that is
refused when transparent huge pages are off, and waited for when defrag is always, by every program. Reserved huge pages
(vm.nr_hugepages) are not used, so none are reserved. NUMA balancing unmaps pages to see who uses them: shards are pinned
and use their own memory, so it only finds out what is known."
GAIN="Not measured here. Sourced: kernel.rst on numa_balancing: a load that is bound to its nodes should switch it off,
for its page faults; transhuge.rst: one TLB entry for 2 MiB, and misses that are cheaper."
RISK="With THP on (madvise) nothing changes for programs that do not ask. numa_balancing helps programs that are not pinned."
SOURCES="Documentation/admin-guide/mm/transhuge.rst, Documentation/admin-guide/sysctl/kernel.rst and vm.rst"

settings() {
    local thp=/sys/kernel/mm/transparent_hugepage
    want choice $thp/enabled "madvise|always" "transhuge.rst: where it is asked for; Weir asks"
    want choice $thp/defrag "madvise|defer+madvise|defer" "transhuge.rst: always makes everybody wait for free huge pages, never gives none at once"
    want number /proc/sys/kernel/numa_balancing 0 "kernel.rst: off for loads that are bound to their nodes"
    want number /proc/sys/vm/zone_reclaim_mode 0 "vm.rst: the default, off; else memory of the own node is cleared before another's is used"
}
