#!/usr/bin/env bash
# Starts a root's systemd as process 1 of namespaces of its own. For scripts/systemd-test.sh, which says:
#     unshare --mount --pid --uts --ipc --net --cgroup --fork boot.sh ROOT
set -euo pipefail

case "${1:-}" in
-h | --help | "")
    cat <<'TEXT'
Usage: scripts/systemd/boot.sh ROOT

Makes ROOT the root of the mount namespace that it runs in, with /proc, /sys, /dev, /run and a cgroup tree, and becomes
ROOT's systemd. To be started as process 1 of new mount, pid, uts, ipc, net and cgroup namespaces, never elsewhere.
Exit status: 2 usage; otherwise it does not come back.
TEXT
    [[ -n "${1:-}" ]] && exit 0
    exit 2 ;;
esac
root=$1
[[ $$ == 1 ]] || { echo "boot.sh: not process 1 of a namespace: it would mount over this host" >&2; exit 2; }
mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
# The kernel's settings are the host's: read only, but for the network's, which are of the namespace.
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount --bind /proc/sys/net proc/sys/net
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    : >"dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
for link in fd:fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do ln -s "/proc/self/${link#*:}" "dev/${link%:*}"; done
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
hostname weir-test
ip link set lo up
mkdir -p .outside
pivot_root . .outside
# Mounts are shared, as whoever makes a container does it: systemd makes those of credentials in a namespace of its own.
exec chroot . /bin/sh -c 'umount -l /.outside; mount --make-rshared /; exec env -i container=weir-test \
    PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=multi-user.target --log-target=journal-or-kmsg'
