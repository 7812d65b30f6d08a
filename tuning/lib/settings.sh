# One setting: what a stage calls. Each says what it wants of what, and why this value.
#
#   want KIND WHAT WANTED REASON
#
# shellcheck shell=bash

# A column is as wide as most of what comes into it.
say() {
    local line
    name_for_people "$2"
    printf -v line '  %-9s %-58s %-14s %s' "$1" "$REPLY" "$3" "$4"
    printf '%s\n' "${line%"${line##*[! ]}"}"
}

# /proc/sys/net/core/somaxconn -> net.core.somaxconn, /proc/irq/41/smp_affinity_list -> interrupt 41 (eth0-rx-1);
# in REPLY.
name_for_people() {
    local name=$1 handler
    case $name in
    /proc/sys/*)
        name=${name#/proc/sys/}
        name=${name//\//.}
        ;;
    /proc/irq/*/smp_affinity_list)
        handler=$(handler_of_irq "${name%/*}") name=${name#/proc/irq/}
        name="interrupt ${name%%/*}${handler:+ ($handler)}"
        ;;
    route:*)
        IFS=: read -r _ name handler REPLY <<<"$name"
        name="route to $REPLY, dev $handler"
        ;;
    nic:*) name=${name#nic:} name="${name%:*} ${name##*:}" ;;
    /sys/class/net/*) name=${name#/sys/class/net/} ;;
    /sys/devices/system/cpu/*) name=${name#/sys/devices/system/cpu/} ;;
    esac
    REPLY=$name
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
    whole) printf 'lines: %s' "$(printf '%b' "$2" | grep -v '^#' | tr '\n' ';')" ;;
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

# Is it on this host at all, and can it be read?
is_here() {
    case $1:$2 in
    whole:* | directory:*) has "${2%/*}" ;;
    channels:* | coalesce:* | route:*) [[ -n $(of_kind show "$1" "$2") ]] ;;
    # Without queues to choose from it is there and cannot be read.
    */xps_cpus) raw_file "$2" >/dev/null 2>&1 ;;
    *) at "$2" && [[ -f $REPLY ]] ;;
    esac
}

# Why not even root may change it from here, in REPLY: a container has a read-only /proc/sys, a network namespace shows
# what only the host's may write.
is_fixed() {
    case $1:$2 in
    whole:* | directory:*) at "${2%/*}" ;;
    channels:* | coalesce:* | route:*) return 1 ;;
    *) at "$2" ;;
    esac || return 1
    [[ $EUID -eq 0 && -e $REPLY && ! -w $REPLY ]] || return 1
    REPLY="read-only here (a container?), to be set on the host"
}

# Nobody can say what a missing tool would have shown.
lacks_tool() {
    case $1 in
    channels | coalesce) [[ -z $ROOT ]] && ! tool ethtool >/dev/null && has "/sys/class/net/$(nic_of "$2")/device" ;;
    *) return 1 ;;
    esac
}

# shellcheck disable=SC2153 # BOOT is set in state.sh
want() {
    local kind=$1 what=$2 wanted=$3 why=$4 is text
    if [[ $ACTION == explain ]]; then
        explain_setting "$what" "${MEANING:-$(wanted_for_people "$kind" "$wanted")}" "$why"
        return
    fi
    if [[ $what == /* ]] && ! at "$what"; then
        FAILED=$((FAILED + 1))
        text=$REPLY
        say refused "$what" "" "$text"
        return
    fi
    if lacks_tool "$kind" "$what"; then
        cannot "$what" "" "cannot be read: there is no program ethtool"
        return
    fi
    if ! is_here "$kind" "$what"; then
        ABSENT=$((ABSENT + 1))
        [[ $VERBOSE == no ]] || say absent "$what" "" "not on this host"
        return
    fi
    is=$(of_kind show "$kind" "$what")
    text=$(wanted_for_people "$kind" "$wanted")
    if "ok_$kind" "$what" "$wanted"; then
        SAME=$((SAME + 1))
        [[ $VERBOSE == no ]] || say ok "$what" "$is" "$text"
    elif is_fixed "$kind" "$what"; then
        cannot "$what" "$is" "$text: $REPLY"
    elif state_find "$what" && [[ ${HEAD[0]} == refused && ${HEAD[2]} == "$wanted" && ${HEAD[3]} == "$BOOT" ]]; then
        KEPT=$((KEPT + 1))
        [[ $VERBOSE == no ]] || say kept "$what" "$is" "$text: the kernel has refused it"
    elif [[ $ACTION == check || $YES == no ]]; then
        differs "$what" "$is" "$text"
    else
        change "$kind" "$what" "$wanted" "$is" "$text"
    fi
}

# Not as wanted, and nothing is done: `check`, or `apply` without --yes.
differs() {
    local mark=differs
    [[ $ACTION == check ]] || mark=would
    if [[ $OPT_IN == yes && $IS_NAMED == no ]]; then
        mark=opt-in OPTIONAL=$((OPTIONAL + 1))
    else
        DIFFER=$((DIFFER + 1))
    fi
    say "$mark" "$@"
}

# Not as wanted, or not known, and beyond what this script can do here.
cannot() {
    if [[ $OPT_IN == yes && $IS_NAMED == no ]]; then
        OPTIONAL=$((OPTIONAL + 1))
    elif [[ $ALLOW_READ_ONLY == yes ]]; then
        KEPT=$((KEPT + 1))
    elif [[ $ACTION == check ]]; then
        DIFFER=$((DIFFER + 1))
    else
        FAILED=$((FAILED + 1))
    fi
    say cannot "$@"
}

# Stores what is there, then changes it, then looks.
change() {
    local kind=$1 what=$2 wanted=$3 is=$4 text=$5 error
    if ! error=$(state_save "$kind" "$what" "$wanted" 2>&1); then
        FAILED=$((FAILED + 1))
        say failed "$what" "$is" "nothing done: what is there cannot be stored in $STATE: $(reason "$error")"
        return
    fi
    error=$(of_kind write "$kind" "$what" "$wanted" 2>&1)
    error=${error:-: reads back as $(of_kind show "$kind" "$what")}
    if "ok_$kind" "$what" "$wanted"; then
        CHANGED=$((CHANGED + 1))
        say changed "$what" "$is" "$text"
        return
    fi
    # Nothing to put back if nothing has changed.
    if state_find "$what" && [[ $(of_kind show "$kind" "$what") == "$is" ]] &&
        cmp -s <(original_of "$ENTRY") <(of_kind raw "$kind" "$what"); then
        rm -f "$ENTRY"
    fi
    case $kind in
    irq | channels | coalesce | route)
        # Some interrupts are moved by the kernel alone, some drivers and routes cannot do what others can.
        KEPT=$((KEPT + 1))
        [[ -f $ENTRY ]] || state_save_refusal "$what" "$wanted"
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
    local heading="$STAGE: $TITLE"
    [[ $OPT_IN == no ]] || heading+=" (opt-in)"
    if [[ $MARKDOWN == yes ]]; then
        printf '## %s\n\n' "$heading"
        printf '%s\n\n**Gain.** %s\n\n**Risk.** %s\n\n**Sources.** %s\n\n' "$WHY" "$GAIN" "$RISK" "$SOURCES"
        printf '%s\n|---|---|---|\n' "$settings_are"
        settings
        printf '\n'
    else
        printf '%s\n\n%s\n\nGain: %s\n\nRisk: %s\n\nSources: %s\n\n' \
            "$heading" "$WHY" "$GAIN" "$RISK" "$SOURCES"
        settings
        printf '\n'
    fi
}

explain_setting() {
    local name
    name_for_people "$1"
    name=$REPLY
    if [[ $MARKDOWN == yes ]]; then
        printf "| \`%s\` | %s | %s |\n" "$name" "${2//|/or}" "${3//|/or}"
    else
        printf '  %s\n      wanted  %s\n      reason  %s\n' "$name" "$2" "$3"
    fi
}
