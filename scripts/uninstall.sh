#!/usr/bin/env bash
# Takes back what scripts/install.sh did.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/uninstall.sh [--prefix DIR] [--root DIR] [--purge] [--dry-run]

Stops and disables the units (not with --root), and removes every file that scripts/install.sh puts, with the
directories that are empty then. /etc/weir and /etc/default/weir stay unless --purge is given; /var/lib/weir, with
certificates, always stays, and so does the group weir-admin.

  --prefix DIR    as it was given to install.sh (/usr)
  --root DIR      likewise
  --purge         configuration too
  --dry-run       only says what would be done

Exit status: 0 removed (or there was nothing), 1 failed, 2 usage.
TEXT
}

prefix=/usr root="" purge=no dry=no
misuse() { echo "uninstall: $*; see --help" >&2; exit 2; }
while (($#)); do
    case "$1" in
    -h | --help) usage; exit 0 ;;
    --prefix | --root)
        (($# >= 2)) || misuse "$1 needs a value"
        case "$1" in --prefix) prefix=$2 ;; --root) root=$2 ;; esac
        shift ;;
    --purge) purge=yes ;;
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

echo "Removed from ${root:-/}$([[ "$dry" == yes ]] && echo ' (dry run: nothing is)'):"
directory=$prefix/lib/systemd/system sysusers=$prefix/lib/sysusers.d
[[ "$prefix" == /usr ]] || { directory=/etc/systemd/system sysusers=/etc/sysusers.d; }
remove "${units[@]/#/$directory/}" "$sysusers/weir.conf"
remove "$prefix/bin/weir"
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
