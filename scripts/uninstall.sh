#!/usr/bin/env bash
# Takes back what scripts/install.sh did.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/uninstall.sh [--prefix DIR] [--root DIR] [--purge] [--no-revert] [--dry-run]

Stops and disables the units (not with --root), puts back the host settings that tune.sh has changed (what is stored
in /var/lib/weir-tuning, by weir-tuning.service or by hand), and removes every file that scripts/install.sh puts, with
the directories that are empty then. /etc/weir and /etc/default/weir stay unless --purge is given; /var/lib/weir, with
run reports, always stays, and so does the group weir-admin.

When a setting cannot be put back, it says which one, and nothing is removed: mend it, or give --no-revert.

  --prefix DIR    as it was given to install.sh (/usr)
  --root DIR      likewise
  --purge         configuration too
  --no-revert     leaves host settings as they are, and what is stored about them
  --dry-run       only says what would be done

Exit status: 0 removed (or there was nothing), 1 failed, 2 usage.
TEXT
}

prefix=/usr root="" purge=no revert=yes dry=no
misuse() { echo "uninstall: $*; see --help" >&2; exit 2; }
while (($#)); do
    case "$1" in
    -h | --help) usage; exit 0 ;;
    --prefix | --root)
        (($# >= 2)) || misuse "$1 needs a value"
        case "$1" in --prefix) prefix=$2 ;; --root) root=$2 ;; esac
        shift ;;
    --purge) purge=yes ;;
    --no-revert) revert=no ;;
    --dry-run) dry=yes ;;
    *) misuse "$1: unknown" ;;
    esac
    shift
done
[[ "$prefix" == /* ]] || misuse "--prefix $prefix: an absolute path is allowed"
prefix=${prefix%/}
[[ -z "$root" || "$root" == /* ]] || root=$PWD/$root
root=${root%/}

remove() {
    local path
    for path in "$@"; do
        [[ -e "$root$path" || -L "$root$path" ]] || continue
        echo "  $root$path"
        [[ "$dry" == yes ]] || rm -r "$root$path" || { echo "uninstall: $root$path stays" >&2; exit 1; }
    done
}

units=(weir.socket weir-analyzers.socket weir-http.socket weir.service weir-tuning.service)
if [[ -z "$root" && "$dry" == no && -d /run/systemd/system ]]; then
    for unit in "${units[@]}"; do
        if systemctl cat "$unit" >/dev/null 2>&1; then systemctl disable --now "$unit"; fi
    done
fi

# With the tune.sh beside this script: nothing of --root is run.
tune=$(dirname "$0")/../tuning/tune.sh state=/var/lib/weir-tuning
if [[ -d "$root$state" && "$revert" == no ]]; then
    echo "Host settings stay as they are; what was there before is in $root$state"
elif [[ -d "$root$state" ]]; then
    echo "Host settings, from $root$state:"
    options=()
    [[ -z "$root" ]] || options+=(--root "$root")
    [[ "$dry" == yes ]] || options+=(--yes)
    "$tune" revert "${options[@]}" || {
        echo "uninstall: not every host setting could be put back: nothing is removed (--no-revert goes on)" >&2
        exit 1
    }
fi

echo "Removed from ${root:-/}$([[ "$dry" == yes ]] && echo ' (dry run: nothing is)'):"
directory=$prefix/lib/systemd/system sysusers=$prefix/lib/sysusers.d
[[ "$prefix" == /usr ]] || { directory=/etc/systemd/system sysusers=/etc/sysusers.d; }
remove "${units[@]/#/$directory/}" "$sysusers/weir.conf"
remove "$prefix/bin/weir" "$prefix/bin/weir-bench"
if [[ -d "$root$prefix/share/man/man1" ]]; then
    while IFS= read -r page; do
        remove "$prefix/share/man/man1/$page"
    done < <(cd "$root$prefix/share/man/man1" && find . -name 'weir*.1' -printf '%P\n')
fi
remove "$prefix/share/bash-completion/completions/weir" "$prefix/share/zsh/vendor-completions/_weir" \
    "$prefix/share/fish/vendor_completions.d/weir.fish" "$prefix/share/doc/weir" "$prefix/share/weir"
[[ "$purge" == no ]] || remove /etc/weir /etc/default/weir /etc/default/weir.new
if [[ "$dry" == no ]]; then
    # Directories that were made for these files; never one that has something else in it.
    for directory in "$prefix"/lib/{systemd/system,systemd,sysusers.d} "$prefix"/lib \
        /etc/systemd/system /etc/systemd /etc/sysusers.d /etc/default /etc \
        "$prefix"/share/{man/man1,man,bash-completion/completions,bash-completion,zsh/vendor-completions,zsh} \
        "$prefix"/share/{fish/vendor_completions.d,fish,doc} "$prefix"/share "$prefix"/bin "$prefix"; do
        [[ -z "$root" ]] || rmdir "$root$directory" 2>/dev/null || true
    done
    if [[ -z "$root" && -d /run/systemd/system ]]; then systemctl daemon-reload; fi
fi
