# shellcheck shell=bash disable=SC2034
TITLE="open files and locked memory"
WHY="Each connection is a descriptor, and Weir refuses to start when --max-connections does not fit. Zero-copy pins
the arena of each shard, and each ring locks memory as well: with too little a shard does not start, or sends are copied.
Limits of a login come from limits.d and count from the next login on. A systemd service does not read it: there it is
LimitNOFILE= and LimitMEMLOCK= of the unit."
GAIN="Weir starts (its rings lock 640 KiB a shard: docs/OPERATIONS.md, Without systemd), and zero-copy can
be used."
RISK="The user named by --user may lock all memory."
SOURCES="getrlimit(2), limits.conf(5), systemd.exec(5), Documentation/admin-guide/sysctl/fs.rst"

settings() {
    local file=/etc/security/limits.d/90-weir.conf user=${LIMITS_USER:-weir} text what
    text='# Written by tune.sh (stage limits).\n'
    for what in "memlock $MEMLOCK" "nofile $NOFILE_MIN"; do
        text+="$user - $what\\n"
    done
    want whole "$file" "$text" "docs/OPERATIONS.md, Without systemd: shards x (--arena + 640 KiB) are pinned; one descriptor a connection"
    want minimum /proc/sys/fs/nr_open "$NOFILE_MIN" "fs.rst: no limit of descriptors can be above it; this is its default"
}
