# What was there before: a file for each thing that was changed, written whole before the change.
#
#   $STATE/sysctl/0003-%2Fproc%2Fsys%2Fnet%2Fcore%2Fsomaxconn
#       number                            kind, see kinds.sh
#       /proc/sys/net/core/somaxconn      what
#       16384                             what was wanted
#       6f9b...                           boot it belongs to, or `lasting`
#       4096                              from here on: what was there, byte for byte
#
# A file comes by rename and goes after its thing is restored: whenever this program is killed, revert puts back all
# that was changed. It is not synced, but for files below /etc: what the others remember ends with the kernel as well.
# shellcheck shell=bash

readonly STATE_HEAD=4

this_boot() {
    local id
    id=$(first_line /proc/sys/kernel/random/boot_id)
    printf '%s' "${id:-unknown}"
}

# Makes the directory; one tune.sh at a time.
state_open() {
    (umask 077 && mkdir -p "$STATE") || return 1
    exec 9<"$STATE" || return 1
    if command -v flock >/dev/null && ! flock -n 9; then
        echo "tune.sh: another one is at work ($STATE is locked)" >&2
        return 1
    fi
    rm -f "$STATE"/*/.new
}

# Removes directories that are empty.
state_close() {
    rmdir "$STATE"/* "$STATE" 2>/dev/null
    return 0
}

# A path as a file name.
escaped() {
    local text=${1//%/%25}
    text=${text//\//%2F}
    printf '%s' "${text// /%20}"
}

# Path of the file for a thing, or fails.
state_find() {
    local found
    for found in "$STATE/$STAGE/"[0-9]*-"$(escaped "$1")"; do
        [[ -f $found ]] && printf '%s' "$found" && return 0
    done
    return 1
}

# Line n of the head.
state_head() { sed -n "${2}p" "$1"; }

# state_save KIND WHAT WANTED: stores what is there now; if something is stored already, that stays.
state_save() {
    local kind=$1 what=$2 wanted=$3 boot dir=$STATE/$STAGE found last=0
    (umask 077 && mkdir -p "$dir") || return 1
    boot=$(this_boot)
    if found=$(state_find "$what"); then
        if [[ $(state_head "$found" 1) == refused ]]; then
            rm -f "$found" && found=
        else
            kind=$(state_head "$found" 1)
        fi
    fi
    case $kind in content | created) boot=lasting ;; esac
    if [[ -n $found ]]; then
        { printf '%s\n' "$kind" "$what" "$wanted" "$boot" && tail -n +$((STATE_HEAD + 1)) "$found"; } >"$dir/.new" ||
            return 1
    else
        for found in "$dir"/[0-9]*; do
            [[ -f $found ]] && last=${found##*/} && last=$((10#${last%%-*}))
        done
        found=$dir/$(printf '%04d' $((last + 1)))-$(escaped "$what")
        { printf '%s\n' "$kind" "$what" "$wanted" "$boot" && "raw_$kind" "$what"; } >"$dir/.new" || return 1
    fi
    if [[ $boot == lasting ]]; then sync "$dir/.new" || return 1; fi
    mv "$dir/.new" "$found" || return 1
    if [[ $boot == lasting ]]; then sync "$dir" || return 1; fi
}

# Remembers until the next boot that the kernel does not let this be changed, so that `check` does not ask for it.
state_save_refusal() {
    # shellcheck disable=SC2317 # state_save calls it
    raw_refused() { :; }
    state_save refused "$1" "$2"
}

# Forgets what a boot has reset.
state_forget_old_boots() {
    local entry boot
    for entry in "$STATE/$STAGE"/[0-9]*; do
        [[ -f $entry ]] || continue
        boot=$(state_head "$entry" 4)
        [[ $boot == lasting || $boot == "$(this_boot)" ]] || rm -f "$entry"
    done
}

# Puts back what is stored for this stage, last first.
state_revert() {
    local entries=() entry n kind what wanted boot error note original
    for entry in "$STATE/$STAGE"/[0-9]*; do
        [[ -f $entry ]] && entries+=("$entry")
    done
    [[ ${#entries[@]} -gt 0 ]] || return 0
    printf '%s:\n' "$STAGE"
    for ((n = ${#entries[@]} - 1; n >= 0; n--)); do
        entry=${entries[n]}
        kind=$(state_head "$entry" 1) what=$(state_head "$entry" 2)
        wanted=$(state_head "$entry" 3) boot=$(state_head "$entry" 4)
        if [[ $boot != lasting && $boot != "$(this_boot)" ]]; then
            [[ $YES == no ]] || rm -f "$entry"
            say gone "$what" "" "the host has booted since, which has reset it"
            continue
        fi
        if [[ $kind == refused ]]; then
            [[ $YES == no ]] || rm -f "$entry"
            continue
        fi
        if ! declare -F "restore_$kind" >/dev/null; then
            say failed "$what" "" "$entry does not say how (kind '$kind')"
            FAILED=$((FAILED + 1))
            continue
        fi
        original=$(tail -n +$((STATE_HEAD + 1)) "$entry" | tr '\t\n' '  ')
        note="back to ${original:-nothing}"
        "ok_$kind" "$what" "$wanted" || note+=" (somebody has changed it since: $("show_$kind" "$what"))"
        if [[ $YES == no ]]; then
            say would "$what" "$("show_$kind" "$what")" "$note"
            DIFFER=$((DIFFER + 1))
        elif error=$(tail -n +$((STATE_HEAD + 1)) "$entry" | "restore_$kind" "$what" 2>&1); then
            rm -f "$entry"
            say restored "$what" "" "$note"
            CHANGED=$((CHANGED + 1))
        else
            say failed "$what" "" "$note: $(reason "$error"); it stays stored in $entry"
            FAILED=$((FAILED + 1))
        fi
    done
}
