#!/usr/bin/env bash
# Puts Weir where systemd and a shell find it.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/install.sh [--prefix DIR] [--root DIR] [--weir PATH] [--no-systemd] [--dry-run]

Installs the program, manuals, completions, units, group, configuration and documents. Nothing is
enabled and nothing is started: it prints the commands for that.

  --prefix DIR    where programs and data go (/usr); units, manuals and paths in them follow
  --root DIR      everything below this directory, for packages and images; nothing is asked of systemd then
  --weir PATH     the program to install (target/dist/weir, built if it is missing); weir-bench, which `weir bench`
                  becomes, is taken from beside it
  --no-systemd    no units, no group
  --dry-run       only says what would be done

What goes where (with --prefix /usr):
  /usr/bin/weir                      and weir-bench
  /usr/lib/systemd/system/           weir.service weir.socket weir-analyzers.socket weir-http.socket
                                     weir-tuning.service
  /usr/lib/sysusers.d/weir.conf      the group weir-admin: who may use `weir ctl`
  /etc/weir/weir.toml                configuration; an existing file stays, the new one lies beside it as .new
  /etc/default/weir                  environment; likewise
  /usr/share/man/man1, bash-completion, zsh, fish; /usr/share/weir/tuning; /usr/share/doc/weir

With --prefix other than /usr, units go to /etc/systemd/system, which is where systemd looks.
`scripts/uninstall.sh` takes back all but what was changed in /etc.
Exit status: 0 installed, 1 failed, 2 usage.
TEXT
}

prefix=/usr root="" weir="" systemd=yes dry=no
fail() { echo "install: $*" >&2; exit 1; }
misuse() { echo "install: $*; see --help" >&2; exit 2; }
while (($#)); do
    case "$1" in
    -h | --help) usage; exit 0 ;;
    --prefix | --root | --weir)
        (($# >= 2)) || misuse "$1 needs a value"
        case "$1" in --prefix) prefix=$2 ;; --root) root=$2 ;; --weir) weir=$2 ;; esac
        shift ;;
    --no-systemd) systemd=no ;;
    --dry-run) dry=yes ;;
    *) misuse "$1: unknown" ;;
    esac
    shift
done
[[ "$prefix" == /* ]] || misuse "--prefix $prefix: an absolute path is allowed"
[[ "$prefix" =~ ^[A-Za-z0-9_./-]+$ ]] || misuse "--prefix $prefix: letters, digits and _ . / - are allowed"
prefix=${prefix%/}
[[ -z "$root" || "$root" == /* ]] || root=$PWD/$root
[[ -z "$weir" || "$weir" == /* ]] || weir=$PWD/$weir
root=${root%/}

cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib/program.sh
source scripts/lib/program.sh
if [[ -z "$weir" ]]; then
    weir=$PWD/target/dist/weir
    [[ -x "$weir" && -x "${weir%/*}/weir-bench" || "$dry" == yes ]] || cargo build --profile dist --locked --workspace
    [[ "$dry" == yes ]] || why_not weir "$weir" || fail "$weir: $REPLY"
else
    why_not weir "$weir" || misuse "--weir $weir: $REPLY"
fi

# One file: mode, source, destination below the root.
put() {
    local mode=$1 from=$2 to=$root$3
    echo "  $to"
    [[ "$dry" == yes ]] && return
    install -D -m "$mode" "$from" "$to" || fail "$to cannot be written (root, or --root DIR?)"
}

# A file with the prefix in its paths.
put_adapted() {
    local mode=$1 from=$2 to=$3 adapted
    adapted=$(mktemp)
    sed -e "s#/usr/bin/weir#$prefix/bin/weir#g" -e "s#/usr/share/#$prefix/share/#g" "$from" >"$adapted"
    put "$mode" "$adapted" "$to"
    rm -f "$adapted"
}

# Configuration: what the operator has is never overwritten.
put_config() {
    local mode=$1 from=$2 to=$3
    if [[ -e "$root$to" ]] && ! cmp -s "$from" "$root$to"; then
        echo "  $root$to stays as it is:"
        to=$to.new
    fi
    put "$mode" "$from" "$to"
}

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
# What the program makes itself.
make_generated() {
    "$weir" man --out "$made/man" >/dev/null || fail "$weir man: failed"
    local shell
    for shell in bash zsh fish; do
        "$weir" completions "$shell" >"$made/weir.$shell" || fail "$weir completions $shell: failed"
    done
    "$weir" config --default >"$made/weir.toml" || fail "$weir config --default: failed"
}

echo "Weir to ${root:-/} (prefix $prefix)$([[ "$dry" == yes ]] && echo ', dry run: nothing is written')"
put 755 "$weir" "$prefix/bin/weir"
if why_not weir-bench "${weir%/*}/weir-bench"; then
    put 755 "${weir%/*}/weir-bench" "$prefix/bin/weir-bench"
else
    echo "  left out: ${weir%/*}/weir-bench: $REPLY; \`weir bench\` will look for it on PATH"
fi
if [[ -x "$weir" ]]; then
    make_generated
    for page in "$made"/man/*.1; do
        put 644 "$page" "$prefix/share/man/man1/$(basename "$page")"
    done
    put 644 "$made/weir.bash" "$prefix/share/bash-completion/completions/weir"
    put 644 "$made/weir.zsh" "$prefix/share/zsh/vendor-completions/_weir"
    put 644 "$made/weir.fish" "$prefix/share/fish/vendor_completions.d/weir.fish"
    put_config 644 "$made/weir.toml" /etc/weir/weir.toml
fi
for document in README.md CHANGELOG.md SECURITY.md LICENSE docs/*.md; do
    put 644 "$document" "$prefix/share/doc/weir/$(basename "$document")"
done
if [[ "$dry" == no ]] && python3 scripts/notices.py >"$made/notices" 2>"$made/notices.why"; then
    put 644 "$made/notices" "$prefix/share/doc/weir/THIRD-PARTY-NOTICES"
elif [[ "$dry" == no ]]; then
    echo "  left out: THIRD-PARTY-NOTICES: scripts/notices.py: $(tail -n 1 "$made/notices.why")"
fi
for file in deploy/grafana/* deploy/prometheus/* deploy/seccomp/*; do
    put 644 "$file" "$prefix/share/doc/weir/$file"
done
if [[ -d tuning ]]; then
    while IFS= read -r -d '' file; do
        mode=644
        [[ -x "$file" ]] && mode=755
        put "$mode" "$file" "$prefix/share/weir/$file"
    done < <(find tuning -type f -print0 | sort -z)
fi
if [[ "$systemd" == yes ]]; then
    units=$prefix/lib/systemd/system
    [[ "$prefix" == /usr ]] || units=/etc/systemd/system
    for unit in systemd/*.service systemd/*.socket; do
        put_adapted 644 "$unit" "$units/$(basename "$unit")"
    done
    for example in systemd/examples/*.conf; do
        put 644 "$example" "$prefix/share/doc/weir/examples/$(basename "$example")"
    done
    sysusers=$prefix/lib/sysusers.d
    [[ "$prefix" == /usr ]] || sysusers=/etc/sysusers.d
    put 644 systemd/weir.sysusers "$sysusers/weir.conf"
    put_config 644 systemd/weir.default /etc/default/weir
    if [[ -z "$root" && "$dry" == no && -d /run/systemd/system ]]; then
        systemd-sysusers weir.conf
        systemctl daemon-reload
    fi
fi

cat <<TEXT
Next, as root:
  weir check /etc/weir/weir.toml
  systemctl enable --now weir.socket weir.service     # sockets by systemd: a restart refuses nobody
  systemctl enable --now weir-tuning.service          # if host settings shall be changed; tune.sh check first
  journalctl -u weir -f
TEXT
