#!/usr/bin/env bash
# Fetches the software that `weir-bench compare` measures beside Weir, each into a root of its own.
set -euo pipefail

keyring_file=/usr/share/keyrings/debian-archive-keyring.gpg
PEERS=(nginx haproxy rsyslog syslog-ng)

usage() {
    cat <<'TEXT'
Usage: scripts/peers.sh install [PEER ...]   fetch and unpack (all: nginx haproxy rsyslog syslog-ng)
       scripts/peers.sh check   [PEER ...]   print the version of each that is there
       scripts/peers.sh remove               delete the directory

  --root DIR     where to (target/peers)
  --suite NAME   Debian suite to take them from (trixie)

Nothing is installed on this host, and root is not needed: packages come with `apt-get --download-only` by
a package state of its own, from this host's configured Debian sources with the suite's name put in, are
verified by apt as usual, and unpacked with `dpkg -x` into DIR/<peer>/. Each runs with its own libraries by
DIR/bin/<peer>, so that rsyslog and syslog-ng, which exclude each other as packages, stand side by side, and
a host on an older release (HAProxy 2.6 ignores weights in mode log; rsyslog 8.2302 has no pools) is served.

Needs: apt-get, dpkg, an x86-64 or arm64 Debian or derivative with Debian sources, about 400 MB of disk.
`weir-bench compare` looks into target/peers; it names binaries elsewhere by --nginx, --haproxy, --rsyslog
and --syslog-ng.

Exit status: 0 all there, 1 one is missing or does not start (named), 2 usage or no Debian sources.
TEXT
}

fail() { echo "peers.sh: $2" >&2; exit "$1"; }

# Each Debian archive that apt is configured with, as a source of $suite. The host's own suite is found by
# name; security and updates suites are left out, their archives have other names in every release.
write_sources() {
    local host_suite uri release component keyring=""
    host_suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    [[ -n $host_suite ]] || fail 2 "/etc/os-release names no release (VERSION_CODENAME): not a Debian"
    if [[ -r $keyring_file ]]; then keyring="[signed-by=$keyring_file] "; fi
    # shellcheck disable=SC2016 # apt's own placeholders
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        while read -r uri release component; do
            [[ $release == "$host_suite" && $component == main ]] && echo "deb $keyring$uri $suite main"
        done | sort -u >"$root/apt/sources.list" || true
    [[ -s $root/apt/sources.list ]] ||
        fail 2 "apt has no source of '$host_suite main' to take '$suite' from (see apt-get indextargets)"
}

apt_own() {
    apt-get -qq \
        -o Dir::Etc::SourceList="$root/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
        -o Dir::State="$root/apt/state" -o Dir::State::Status="$root/apt/state/status" \
        -o Dir::Cache="$root/apt/cache" -o Dir::Log="$root/apt/log" \
        -o APT::Sandbox::User="$(id -un)" -o APT::Install-Recommends=false \
        -o APT::Keep-Downloaded-Packages=true -o Debug::NoLocking=true "$@"
}

prepare() {
    mkdir -p "$root"/{bin,apt/state/lists/partial,apt/cache/archives/partial,apt/log}
    : >"$root/apt/state/status"
    write_sources
    echo "peers.sh: reading the package lists of $suite"
    apt_own update || fail 1 "apt-get update of '$suite' failed: is there such a suite, and a network?"
}

packages_of() {
    case "$1" in
    nginx) echo nginx-light libnginx-mod-stream ;;
    haproxy) echo haproxy ;;
    rsyslog) echo rsyslog ;;
    syslog-ng) echo syslog-ng-core syslog-ng-scl ;;
    esac
}

binary_of() {
    case "$1" in
    nginx) echo usr/sbin/nginx ;;
    haproxy) echo usr/sbin/haproxy ;;
    rsyslog) echo usr/sbin/rsyslogd ;;
    syslog-ng) echo usr/sbin/syslog-ng ;;
    esac
}

install_peer() {
    local peer=$1 here=$root/$1 file
    echo "peers.sh: $peer"
    rm -rf "${here:?}"
    mkdir -p "$here"
    # The state knows no installed package, so apt names all that is needed, down to the C library.
    # shellcheck disable=SC2046 # a list of words
    apt_own install --yes --download-only $(packages_of "$peer") >/dev/null ||
        fail 1 "$peer: apt-get could not fetch $(packages_of "$peer") from $suite"
    for file in "$root"/apt/cache/archives/*.deb; do
        dpkg -x "$file" "$here"
    done
    rm -f "$root"/apt/cache/archives/*.deb
    rm -rf "$here"/usr/share/{doc,man,locale,info}
    write_wrapper "$peer"
}

# The peer's own loader with the peer's own libraries: nothing of the host's C library is used.
write_wrapper() {
    local here=$root/$1 loader
    loader=$(find "$here" -name 'ld-linux*.so.*' -not -type d | head -n 1)
    [[ -n $loader ]] || fail 1 "$1: its packages hold no loader (ld-linux)"
    cat >"$root/bin/$1" <<WRAPPER
#!/bin/sh
here='$here'
libraries=\$(find "\$here/lib" "\$here/usr/lib" -maxdepth 2 -name '*.so*' -printf '%h\n' 2>/dev/null | sort -u | tr '\n' ':')
exec '$loader' --library-path "\$libraries" "\$here/$(binary_of "$1")" "\$@"
WRAPPER
    chmod +x "$root/bin/$1"
}

version_of() {
    case "$1" in
    nginx) "$root/bin/nginx" -v 2>&1 ;;
    haproxy) "$root/bin/haproxy" -v 2>&1 ;;
    rsyslog) "$root/bin/rsyslog" -v 2>&1 ;;
    syslog-ng) "$root/bin/syslog-ng" --no-module-discovery --version 2>&1 ;;
    esac | head -n 1
}

check_peer() {
    local version
    [[ -x $root/bin/$1 ]] || { echo "$1: not there: scripts/peers.sh install $1"; return 1; }
    version=$(version_of "$1") || true
    if [[ $version != *[0-9].[0-9]* ]]; then
        echo "$1: does not start: $version"
        return 1
    fi
    echo "$1: $version"
}

cd "$(dirname "$0")/.."
root=target/peers suite=trixie command="" names=()
while (($#)); do
    case "$1" in
    -h | --help) usage; exit 0 ;;
    --root) [[ $# -ge 2 ]] || fail 2 "--root needs a directory"; root=$2; shift ;;
    --suite) [[ $# -ge 2 ]] || fail 2 "--suite needs a name"; suite=$2; shift ;;
    install | check | remove) command=$1 ;;
    nginx | haproxy | rsyslog | syslog-ng) names+=("$1") ;;
    *) fail 2 "unknown word '$1': allowed are install, check, remove, --root, --suite, ${PEERS[*]} (--help)" ;;
    esac
    shift
done
[[ -n $command ]] || { usage >&2; exit 2; }
((${#names[@]})) || names=("${PEERS[@]}")
# Only install makes it.
if [[ $command == install ]]; then mkdir -p "$root"; fi
if [[ -d $root ]]; then root=$(cd "$root" && pwd); fi

case "$command" in
install)
    for tool in apt-get dpkg; do
        command -v "$tool" >/dev/null || fail 2 "$tool is missing: this needs a Debian"
    done
    prepare
    for peer in "${names[@]}"; do install_peer "$peer"; done
    for peer in "${names[@]}"; do check_peer "$peer"; done
    ;;
check)
    status=0
    for peer in "${names[@]}"; do check_peer "$peer" || status=1; done
    exit "$status"
    ;;
remove)
    [[ -d $root ]] || { echo "peers.sh: there is no $root: nothing to remove"; exit 0; }
    [[ -d $root/apt && -d $root/bin ]] || fail 2 "$root was not made by this script (no apt/ and bin/ in it)"
    rm -rf "${root:?}"
    ;;
esac
