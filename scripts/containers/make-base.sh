#!/usr/bin/env bash
# A builder image of what this machine has: Debian, a C compiler, git, Python, this Rust, these crates.
set -euo pipefail

case "${1:-}" in
-h | --help | "")
    cat <<'TEXT'
Usage: scripts/containers/make-base.sh DIR

Makes DIR/base.tar: what the public image has that the Dockerfile builds in, for hosts that reach no registry of
images. /usr/local/rustup and /usr/local/cargo lie where that image has them. And DIR/prometheus.tar: Debian's
Prometheus where the public image has it. What is there already is not made again, unless Cargo.lock changed. Exit status: 0 made, 1 failed, 2 usage.
TEXT
    [[ -n "${1:-}" ]] && exit 0
    exit 2 ;;
esac

dir=$(realpath -m "$1")
cd "$(dirname "$0")/../.."
mark=$(cat Cargo.lock "$0" | sha256sum | cut -d ' ' -f 1)-$(rustc --version | tr -d ' ()')
[[ ! -e "$dir/base.tar" || "$(cat "$dir/base.mark" 2>/dev/null)" != "$mark" ]] || exit 0

rm -rf "$dir/base" "$dir/base.tar" "$dir/base.mark"
mkdir -p "$dir/base"
cargo fetch --locked --quiet
mmdebstrap --quiet --mode=root --variant=apt --include=gcc,libc6-dev,git,python3,ca-certificates \
    --aptopt='APT::Sandbox::User "root"' bookworm "$dir/base" >/dev/null

toolchain=$(rustc --print sysroot)
local=$dir/base/usr/local
install -d "$local/rustup/toolchains/this" "$local/cargo/registry" "$local/cargo/bin"
cp -a "$toolchain/bin" "$toolchain/lib" "$local/rustup/toolchains/this/"
for program in "$toolchain"/bin/*; do
    ln -s "../../rustup/toolchains/this/bin/${program##*/}" "$local/cargo/bin/${program##*/}"
done
cp -a "${CARGO_HOME:-$HOME/.cargo}"/registry/{cache,index} "$local/cargo/registry/"
rm -rf "$dir"/base/var/cache/apt/* "$dir"/base/var/lib/apt/lists/* "$dir"/base/dev/*
tar -C "$dir/base" -cf "$dir/base.tar.new" .
rm -rf "$dir/base"
mv "$dir/base.tar.new" "$dir/base.tar"

prometheus=$dir/prometheus
rm -rf "$prometheus"
mkdir -p "$prometheus/package" "$prometheus/root/bin" "$prometheus/root/etc/prometheus"
install -d -m 1777 "$prometheus/root/prometheus"
(cd "$prometheus" && apt-get download -qq -o APT::Sandbox::User=root prometheus)
dpkg-deb -x "$prometheus"/prometheus_*.deb "$prometheus/package"
cp "$prometheus/package/usr/bin/prometheus" "$prometheus/root/bin/"
ldd "$prometheus/root/bin/prometheus" | grep -o '/[^ ]*' | xargs cp --dereference --parents --target-directory "$prometheus/root"
tar -C "$prometheus/root" -cf "$dir/prometheus.tar" .
rm -rf "$prometheus"
echo "$mark" >"$dir/base.mark"
