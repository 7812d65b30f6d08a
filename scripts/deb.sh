#!/usr/bin/env bash
# Builds a Debian package of Weir.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/deb.sh [--out DIR] [--weir PATH] [--maintainer 'NAME <MAIL>']

Builds DIR/weir_VERSION_ARCH.deb (DIR: target) with dpkg-deb: what scripts/install.sh --prefix /usr puts, with
/etc/weir/weir.toml and /etc/default/weir as conffiles, and scripts that create the group weir-admin, restart a
running distributor on an upgrade (its sockets stay open, nobody is refused), and stop everything on removal.
Nothing is enabled or started by an installation.

  --out DIR         where to
  --weir PATH       the program (target/dist/weir, built if it is missing), with weir-bench beside it; debug
                    information is stripped
  --maintainer WHO  as it shall stand in the package (the author of the newest commit)

Then it checks the package: control fields, owners, modes, conffiles, checksums, no file outside of what a package
may have, documents and manuals compressed, that both programs run out of it; `lintian` too, if it is there. The version is that of Cargo.toml.
Exit status: 0 built and checked, 1 failed, 2 usage, 4 dpkg-deb is missing.
TEXT
}

out=target weir="" maintainer=""
fail() { echo "deb: $*" >&2; exit 1; }
misuse() { echo "deb: $*; see --help" >&2; exit 2; }
while (($#)); do
    case "$1" in
    -h | --help) usage; exit 0 ;;
    --out | --weir | --maintainer)
        (($# >= 2)) || misuse "$1 needs a value"
        case "$1" in --out) out=$(realpath -m "$2") ;; --weir) weir=$(realpath -m "$2") ;; *) maintainer=$2 ;; esac
        shift ;;
    *) misuse "$1: unknown" ;;
    esac
    shift
done
cd "$(dirname "$0")/.."
command -v dpkg-deb >/dev/null || { echo "deb: dpkg-deb is missing" >&2; exit 4; }
# shellcheck source=scripts/lib/program.sh
source scripts/lib/program.sh
if [[ -z "$weir" ]]; then
    weir=target/dist/weir
    [[ -x "$weir" && -x "${weir%/*}/weir-bench" ]] || cargo build --profile dist --locked --workspace
fi
why_not weir "$weir" || misuse "--weir $weir: $REPLY"
bench=${weir%/*}/weir-bench
why_not weir-bench "$bench" || misuse "--weir $weir: beside it, $bench: $REPLY"
maintainer=${maintainer:-$(git log -1 --format='%an <%ae>' 2>/dev/null || echo 'Weir maintainers <root@localhost>')}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
arch=$(dpkg --print-architecture)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
stage=$scratch/weir
mkdir "$scratch/programs"
install -m 755 "$weir" "$scratch/programs/weir"
install -m 755 "$bench" "$scratch/programs/weir-bench"
if command -v strip >/dev/null; then
    for program in "$scratch"/programs/*; do
        # In a test a script may play one of them.
        ! readelf -h "$program" >/dev/null 2>&1 || strip --strip-debug "$program"
    done
fi
scripts/install.sh --root "$stage" --weir "$scratch/programs/weir" >/dev/null

# As Debian wants them.
gzip -9n "$stage"/usr/share/man/man1/*.1
[[ -s "$stage/usr/share/doc/weir/THIRD-PARTY-NOTICES" ]] || fail "scripts/notices.py gave no notices; they belong into a package"
gzip -9n "$stage/usr/share/doc/weir/THIRD-PARTY-NOTICES"
rm "$stage/usr/share/doc/weir/LICENSE"
{ cat systemd/debian/copyright; sed 's/^$/./; s/^/ /' LICENSE; } >"$stage/usr/share/doc/weir/copyright"
{
    echo "weir ($version) unstable; urgency=medium"
    printf '\n  * See the log of the repository.\n\n'
    echo " -- $maintainer  $(git log -1 --format=%aD 2>/dev/null || date -R)"
} | gzip -9n >"$stage/usr/share/doc/weir/changelog.gz"
chmod 644 "$stage/usr/share/doc/weir/copyright" "$stage/usr/share/doc/weir/changelog.gz"

# The newest symbol of the C library that the program asks for.
libc=$({ readelf -V "$scratch"/programs/* 2>/dev/null || true; } | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -1)
install -d "$stage/DEBIAN"
cat >"$stage/DEBIAN/control" <<TEXT
Package: weir
Version: $version
Architecture: $arch
Maintainer: $maintainer
Installed-Size: $(du -sk --exclude=DEBIAN "$stage" | cut -f1)
Depends: libc6${libc:+ (>= $libc)}, libgcc-s1
Recommends: systemd (>= 252)
Section: net
Priority: optional
Description: divides a live log stream among weighted analyzers
 Takes log messages from many connections, TCP frames or JSON over HTTP, and
 gives each message to exactly one of several analyzers, in proportion to their
 weights. What an analyzer has not acknowledged when it dies goes to another
 one. One thread per core on io_uring; needs Linux 6.0 or later.
TEXT
printf '%s\n' /etc/default/weir /etc/weir/weir.toml >"$stage/DEBIAN/conffiles"
install -m 755 systemd/debian/{postinst,prerm,postrm} "$stage/DEBIAN/"
(cd "$stage" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z |
    grep -zv '^etc/' | xargs -0 md5sum) >"$stage/DEBIAN/md5sums"

mkdir -p "$out"
package=$out/weir_${version}_$arch.deb
dpkg-deb --root-owner-group -Zxz --build "$stage" "$package" >/dev/null

# Is it what it should be?
listing=$(dpkg-deb -c "$package")
fields=$(dpkg-deb -f "$package")
for field in Package Version Architecture Maintainer Depends Description; do
    grep -q "^$field: ." <<<"$fields" || fail "no field $field"
done
grep -q '^Maintainer: .* <.*@.*>$' <<<"$fields" || fail "Maintainer: a name and <mail> are wanted: $maintainer"
awk '$2 != "root/root" { print; bad = 1 } END { exit bad }' <<<"$listing" || fail "not owned by root"
awk '$1 !~ /^l/ && $1 ~ /^.....w|^........w|s|t/ { print; bad = 1 } END { exit bad }' \
    <<<"$listing" || fail "writable by others, or setuid"
bad=$(awk '{ print $6 }' <<<"$listing" | grep -Ev '^\./($|usr/($|bin/|lib/($|systemd/|sysusers\.d/)|share/)|etc/)' || true)
[[ -z "$bad" ]] || fail "does not belong into a package: $bad"
while IFS= read -r file; do
    grep -q " \.$file\$" <<<"$listing" || fail "conffile $file is not in it"
done <"$stage/DEBIAN/conffiles"
for wanted in ./usr/bin/weir ./usr/bin/weir-bench ./usr/lib/systemd/system/weir.service ./usr/share/man/man1/weir.1.gz \
    ./usr/share/doc/weir/copyright ./usr/share/doc/weir/changelog.gz \
    ./usr/share/doc/weir/THIRD-PARTY-NOTICES.gz ./usr/lib/sysusers.d/weir.conf; do
    grep -q " $wanted\$" <<<"$listing" || fail "$wanted is missing"
done
mkdir "$scratch/again"
dpkg-deb -x "$package" "$scratch/again"
(cd "$scratch/again" && md5sum --quiet -c "$stage/DEBIAN/md5sums") || fail "checksums"
cmp -s "$scratch/programs/weir" "$scratch/again/usr/bin/weir" || fail "the program is another"
# From the place where it is installed, and from nowhere else.
says=$(PATH=/nowhere "$scratch/again/usr/bin/weir" bench --version) || fail "weir bench does not run out of the package"
[[ "$says" == "weir-bench "* ]] || fail "weir bench --version says '$says'"
if command -v lintian >/dev/null; then
    lintian --fail-on error "$package" || fail "lintian"
else
    echo "deb: lintian is not here, its checks are left out"
fi
echo "$package: $(stat -c %s "$package") bytes, $(wc -l <<<"$listing") entries"
