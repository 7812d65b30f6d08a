# One setting: what a stage calls. Each says what it wants of what, and why this value.
#
#   want KIND WHAT WANTED REASON
#
# shellcheck shell=bash

# A column is as wide as most of what comes into it.
say() {
    printf '  %-9s %-58s %-14s %s\n' "$1" "$(name_for_people "$2")" "$3" "$4" | sed 's/ *$//'
}

# /proc/sys/net/core/somaxconn -> net.core.somaxconn, /proc/irq/41/smp_affinity_list -> interrupt 41 (eth0-rx-1)
name_for_people() {
    local name=$1 handler
    case $name in
    /proc/sys/*)
        name=${name#/proc/sys/}
        name=${name//\//.}
        ;;
    /proc/irq/*/smp_affinity_list)
        handler=$(find "$ROOT${name%/*}" -mindepth 1 -maxdepth 1 -type d -printf '%f\n' 2>/dev/null | head -n 1)
        name=${name#/proc/irq/}
        name="interrupt ${name%%/*}${handler:+ ($handler)}"
        ;;
    nic:*) name=${name#nic:} name="${name%:*} ${name##*:}" ;;
    /sys/class/net/*) name=${name#/sys/class/net/} ;;
    /sys/devices/system/cpu/*) name=${name#/sys/devices/system/cpu/} ;;
    esac
    printf '%s' "$name"
}

# What is written, in words.
wanted_for_people() {
    case $1 in
    minimum) printf 'at least %s' "$2" ;;
    last) printf 'last at least %s' "$2" ;;
    ceiling) printf 'at most %s, not 0' "$2" ;;
    choice) printf '%s' "${2//|/ or }" ;;
    irq) printf 'within %s' "${2#*|}" ;;
    channels) printf 'at least %s' "$2" ;;
    content | created) printf 'lines: %s' "$(printf '%b' "$2" | grep -v '^#' | tr '\n' ';')" ;;
    directory) printf 'there' ;;
    controller) printf 'with %s' "$2" ;;
    *) printf '%s' "$2" ;;
    esac
}

# What an error message of a shell or a tool says, without who says it.
reason() {
    local text=${1##*: }
    printf '%s' "${text:-no reason given}" | tr '\n' ' '
}

# Is it on this host at all, can it be read, and changed by somebody?
is_here() {
    case $1 in
    created | directory) [[ -d $ROOT$(dirname "$2") ]] ;;
    channels | coalesce) [[ -n $("show_$1" "$2") ]] ;;
    *)
        # Some files show in a network namespace what only the host can change: their mode has no w.
        [[ -f $ROOT$2 && $(stat -c %A "$ROOT$2") == *w* ]] && cat "$ROOT$2" >/dev/null 2>&1
        ;;
    esac
}

want() {
    local kind=$1 what=$2 wanted=$3 why=$4 is text entry
    if [[ $ACTION == explain ]]; then
        explain_setting "$what" "${MEANING:-$(wanted_for_people "$kind" "$wanted")}" "$why"
        return
    fi
    if ! is_here "$kind" "$what"; then
        ABSENT=$((ABSENT + 1))
        [[ $VERBOSE == no ]] || say absent "$what" "" "not on this host"
        return
    fi
    is=$("show_$kind" "$what")
    text=$(wanted_for_people "$kind" "$wanted")
    if "ok_$kind" "$what" "$wanted"; then
        SAME=$((SAME + 1))
        [[ $VERBOSE == no ]] || say ok "$what" "$is" "$text"
    elif entry=$(state_find "$what") && [[ $(state_head "$entry" 1) == refused &&
        $(state_head "$entry" 3) == "$wanted" && $(state_head "$entry" 4) == "$(this_boot)" ]]; then
        KEPT=$((KEPT + 1))
        [[ $VERBOSE == no ]] || say kept "$what" "$is" "$text: the kernel has refused it"
    elif [[ $ACTION == check ]]; then
        DIFFER=$((DIFFER + 1))
        say differs "$what" "$is" "$text"
    elif [[ $YES == no ]]; then
        DIFFER=$((DIFFER + 1))
        say would "$what" "$is" "$text"
    else
        change "$kind" "$what" "$wanted" "$is" "$text"
    fi
}

# Stores what is there, then changes it, then looks.
change() {
    local kind=$1 what=$2 wanted=$3 is=$4 text=$5 error entry
    if ! error=$(state_save "$kind" "$what" "$wanted" 2>&1); then
        FAILED=$((FAILED + 1))
        say failed "$what" "$is" "nothing done: what is there cannot be stored in $STATE: $(reason "$error")"
        return
    fi
    error=$("write_$kind" "$what" "$wanted" 2>&1)
    if "ok_$kind" "$what" "$wanted"; then
        CHANGED=$((CHANGED + 1))
        say changed "$what" "$is" "$text"
        return
    fi
    # Nothing to put back if nothing has changed.
    entry=$(state_find "$what")
    if [[ $("show_$kind" "$what") == "$is" && -n $entry ]] &&
        cmp -s <(tail -n +$((STATE_HEAD + 1)) "$entry") <("raw_$kind" "$what"); then
        rm -f "$entry"
    fi
    case $kind in
    irq | channels | coalesce)
        # Some interrupts are moved by the kernel alone, some drivers cannot do what others can.
        KEPT=$((KEPT + 1))
        [[ -f $entry ]] || state_save_refusal "$what" "$wanted"
        say kept "$what" "$is" "$text: the kernel refuses ($(reason "$error"))"
        ;;
    *)
        FAILED=$((FAILED + 1))
        say failed "$what" "$is" "$text: $(reason "$error")"
        ;;
    esac
}

# `skip WHY`: the whole stage has nothing to do here.
skip() {
    ABSENT=$((ABSENT + 1))
    printf '  left out: %s\n' "$1"
}

# --- explain ---------------------------------------------------------------------------------------------------------

explain_stage() {
    local settings_are='| What | Wanted | Why this value |'
    if [[ $MARKDOWN == yes ]]; then
        printf '## %s: %s\n\n' "$STAGE" "$TITLE"
        printf '%s\n\n**Gain.** %s\n\n**Risk.** %s\n\n**Sources.** %s\n\n' "$WHY" "$GAIN" "$RISK" "$SOURCES"
        printf '%s\n|---|---|---|\n' "$settings_are"
        settings
        printf '\n'
    else
        printf '%s: %s\n\n%s\n\nGain: %s\n\nRisk: %s\n\nSources: %s\n\n' \
            "$STAGE" "$TITLE" "$WHY" "$GAIN" "$RISK" "$SOURCES"
        settings
        printf '\n'
    fi
}

explain_setting() {
    local name
    name=$(name_for_people "$1")
    if [[ $MARKDOWN == yes ]]; then
        printf "| \`%s\` | %s | %s |\n" "$name" "${2//|/or}" "${3//|/or}"
    else
        printf '  %s\n      wanted  %s\n      reason  %s\n' "$name" "$2" "$3"
    fi
}
