#!/usr/bin/env bash
# A small root with Debian's systemd in it, out of the packages that apt's configured sources offer.
set -euo pipefail

case "${1:-}" in
-h | --help | "")
    cat <<'TEXT'
Usage: scripts/systemd/make-root.sh DIR

Downloads systemd and what it needs with apt-get, as for a machine that has nothing installed, and unpacks it into
DIR/root; the packages stay in DIR/archives. This machine's own packages are not touched. What is there already is
not done again. Exit status: 0 made, 1 failed, 2 usage, 4 no apt-get or dpkg-deb.
TEXT
    [[ -n "${1:-}" ]] && exit 0
    exit 2 ;;
esac

for tool in apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || { echo "make-root: $tool is missing" >&2; exit 4; }
done
dir=$(realpath -m "$1")
root=$dir/root
[[ ! -e "$root/.complete" ]] || exit 0
mkdir -p "$dir/archives/partial"
: >"$dir/nothing-installed"
apt-get -qq -o "Dir::State::status=$dir/nothing-installed" -o "Dir::Cache::archives=$dir/archives" \
    -o Debug::NoLocking=1 -o APT::Sandbox::User=root --download-only --no-install-recommends -y \
    install base-files base-passwd bash coreutils dash diffutils grep init-system-helpers iproute2 libc-bin libgcc-s1 procps sed tar gzip findutils \
    systemd systemd-sysv util-linux >/dev/null ||
    { echo "make-root: apt-get cannot download (apt-get update?)" >&2; exit 1; }

rm -rf "$root"
mkdir -p "$root"/usr/{bin,sbin,lib,lib64}
for link in bin sbin lib lib64; do ln -s "usr/$link" "$root/$link"; done
for package in "$dir"/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -xf - -C "$root" --keep-directory-symlink
done
# dpkg shall know what is there, so that a package can be installed with its dependencies checked.
info=$root/var/lib/dpkg/info
install -d "$info" "$root/var/lib/dpkg/updates"
for package in "$dir"/archives/*.deb; do
    dpkg-deb -f "$package" | sed '1a Status: install ok installed'
    echo
    name=$(dpkg-deb -f "$package" Package)
    if [[ "$(dpkg-deb -f "$package" Multi-Arch)" == same ]]; then name+=:$(dpkg-deb -f "$package" Architecture); fi
    dpkg-deb --fsys-tarfile "$package" | tar -tf - | sed 's#^\./#/#; s#/$##; s#^$#/.#' >"$info/$name.list"
done >"$root/var/lib/dpkg/status"
[[ -e "$root/bin/sh" ]] || ln -s dash "$root/bin/sh"
cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
rm -rf "$root/var/run" "$root/var/lock"
ln -s ../run "$root/var/run"
ln -s ../run/lock "$root/var/lock"
: >"$root/etc/machine-id"
echo weir-test >"$root/etc/hostname"
echo '127.0.0.1 localhost weir-test' >"$root/etc/hosts"

# It must not touch settings of the kernel that are not of its namespaces.
ln -sf /dev/null "$root/etc/systemd/system/systemd-sysctl.service"
ln -sf /dev/null "$root/etc/systemd/system/systemd-modules-load.service"
: >"$root/.complete"
