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

# Sets BOOT.
know_the_boot() {
    BOOT=$(first_line /proc/sys/kernel/random/boot_id)
    BOOT=${BOOT:-unknown}
}

# Makes the directory; one tune.sh at a time. Whoever can write there decides what root puts back where: it is not below
# /var/lib/weir, which belongs to the distributor's user.
state_open() {
    (umask 077 && mkdir -p "$STATE") || return 1
    if [[ ! -O $STATE || ! -O $(dirname "$STATE") ]]; then
        echo "tune.sh: --state $STATE: it, or the directory it is in, belongs to somebody else" >&2
        return 1
    fi
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

# Sets ENTRY to the file for a thing and HEAD to its first lines, or fails.
state_find() {
    ENTRY='' HEAD=('' '' '' '')
    [[ -d $STATE/$STAGE ]] || return 1
    for ENTRY in "$STATE/$STAGE/"[0-9]*-"$(escaped "$1")"; do
        [[ -f $ENTRY ]] && state_read && return 0
    done
    ENTRY=''
    return 1
}

# Sets HEAD to the first lines of ENTRY.
state_read() {
    mapfile -t -n $STATE_HEAD HEAD <"$ENTRY"
    # Of a file that is none of ours.
    while [[ ${#HEAD[@]} -lt $STATE_HEAD ]]; do HEAD+=(''); done
}

# What was there, byte for byte.
original_of() { tail -n +$((STATE_HEAD + 1)) "$1"; }

# state_save KIND WHAT WANTED: stores what is there now; if something is stored already, that stays.
state_save() {
    local kind=$1 what=$2 wanted=$3 boot=$BOOT dir=$STATE/$STAGE found last=0
    [[ -d $dir ]] || (umask 077 && mkdir -p "$dir") || return 1
    if state_find "$what"; then
        if [[ ${HEAD[0]} == refused ]]; then
            rm -f "$ENTRY" && ENTRY=''
        else
            kind=${HEAD[0]}
        fi
    fi
    [[ $kind != whole ]] || boot=lasting
    if [[ -n $ENTRY ]]; then
        { printf '%s\n' "$kind" "$what" "$wanted" "$boot" && original_of "$ENTRY"; } >"$dir/.new" || return 1
    else
        for found in "$dir"/[0-9]*; do
            [[ -f $found ]] && last=${found##*/} && last=$((10#${last%%-*}))
        done
        printf -v ENTRY '%s/%04d-%s' "$dir" $((last + 1)) "$(escaped "$what")"
        { printf '%s\n' "$kind" "$what" "$wanted" "$boot" && of_kind raw "$kind" "$what"; } >"$dir/.new" || return 1
    fi
    if [[ $boot == lasting ]]; then sync "$dir/.new" || return 1; fi
    mv "$dir/.new" "$ENTRY" || return 1
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
    for ENTRY in "$STATE/$STAGE"/[0-9]*; do
        [[ -f $ENTRY ]] || continue
        state_read
        [[ ${HEAD[3]} == lasting || ${HEAD[3]} == "$BOOT" ]] || rm -f "$ENTRY"
    done
}

# Puts back what is stored for this stage, last first.
state_revert() {
    local entries=() n
    for ENTRY in "$STATE/$STAGE"/[0-9]*; do
        [[ -f $ENTRY ]] && entries+=("$ENTRY")
    done
    [[ ${#entries[@]} -gt 0 ]] || return 0
    printf '%s:\n' "$STAGE"
    for ((n = ${#entries[@]} - 1; n >= 0; n--)); do
        ENTRY=${entries[n]}
        state_read
        state_restore "${HEAD[@]}"
    done
}

# state_restore KIND WHAT WANTED BOOT: puts back what ENTRY has, and removes it.
state_restore() {
    local kind=$1 what=$2 wanted=$3 boot=$4 error note original
    if [[ $boot != lasting && $boot != "$BOOT" ]]; then
        [[ $YES == no ]] || rm -f "$ENTRY"
        say gone "$what" "" "the host has booted since, which has reset it"
        return
    fi
    if [[ $kind == refused ]]; then
        [[ $YES == no ]] || rm -f "$ENTRY"
        return
    fi
    if ! declare -F "ok_$kind" >/dev/null; then
        say failed "$what" "" "$ENTRY does not say how (kind '$kind')"
        FAILED=$((FAILED + 1))
        return
    fi
    if [[ $what == /* ]] && ! at "$what"; then
        note="$REPLY; it stays stored in $ENTRY"
        say refused "$what" "" "$note"
        FAILED=$((FAILED + 1))
        return
    fi
    read -r -d '' -a original < <(original_of "$ENTRY")
    note="back to ${original[*]-nothing}"
    "ok_$kind" "$what" "$wanted" || note+=" (somebody has changed it since: $(of_kind show "$kind" "$what"))"
    if [[ $YES == no ]]; then
        say would "$what" "$(of_kind show "$kind" "$what")" "$note"
        DIFFER=$((DIFFER + 1))
    elif error=$(original_of "$ENTRY" | of_kind restore "$kind" "$what" 2>&1); then
        rm -f "$ENTRY"
        say restored "$what" "" "$note"
        CHANGED=$((CHANGED + 1))
    else
        say failed "$what" "" "$note: $(reason "$error"); it stays stored in $ENTRY"
        FAILED=$((FAILED + 1))
    fi
}
