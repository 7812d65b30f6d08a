#!/usr/bin/env bash
# Tunes this host for Weir, stage by stage; remembers what was there. See docs/TUNING.md.
#
#   tune.sh          arguments, stages one after the other, exit status     read this first
#   lib/root.sh      where a path is: the host's, or within the tree of --root
#   lib/host.sh      what the host has: CPUs, NICs, interrupts
#   lib/settings.sh  one setting: is it as wanted, change it
#   lib/kinds.sh     the kinds of settings: read, compare, write, restore
#   lib/state.sh     what was there before
#   lib/fake.sh      what a kernel does by itself, for trees given by --root
#   stages/          what is wanted, and why
#   thresholds.conf  the values, shared with `weir doctor`
# Much of this is for the parts in lib/ and stages/, which shellcheck does not see from here.
# shellcheck disable=SC2034
set -uo pipefail
export LC_ALL=C

usage() {
    cat <<'TEXT'
Usage: tuning/tune.sh check|apply|revert|explain [stage...] [options]

Makes a Linux host fit for Weir and, later, as it was before. Without stages: all of them, but `apply` leaves out
those that are opt-in.

  check      says what is not as wanted; changes nothing
  apply      prints what it would change; with --yes it does. What was there is stored before each change
  revert     prints what it would put back; with --yes it does
  explain    why, sources, gain and risk of each stage, and each value with its reason

Stages:
TEXT
    list_stages
    cat <<'TEXT'

Options:
  --yes, --now   do it. Without it nothing is changed
  --cores LIST   cores of Weir's shards, such as 2-7 or 2,3: as in `weir distributor --cores`. Interrupts
                 go to the others, and `isolate` takes these. Without it all cores are Weir's
  --nic NAME     a network interface to tune, may be repeated; default: those with a device behind them
  --user NAME    the user whose limits `limits` raises (weir)
  --state DIR    where it stores what was there (/var/lib/weir-tuning)
  --root DIR     a tree to use in place of /, with its own /proc, /sys, /etc: for tests and for images.
                 Nothing outside of it is read or written, but for --state: a link that begins with a
                 slash begins at DIR, and what leads out is refused and named. No program of it is run,
                 so what ethtool would show is left out
  --test-run-tools-of-root
                 runs DIR/usr/sbin/ethtool all the same, as whoever runs this: only for a tree of your own
  --allow-read-only
                 what can only be changed outside of this container is named and is no failure
  --verbose      also what is as wanted, and what this host does not have

What a host does not have (a file, a queue) is left out. What is there and cannot be changed from here (a container with
a read-only /proc/sys) or not be read (no ethtool) is named: that is no success. A host that boots forgets what was
applied, but for files below /etc: apply again (weir-tuning.service does).

  tuning/tune.sh check                       # what is wrong?
  tuning/tune.sh apply --cores 2-7           # what would be done?
  sudo tuning/tune.sh apply --cores 2-7 --yes
  sudo tuning/tune.sh revert --yes           # as it was

Exit status: check: 0 all as wanted, 1 something differs or cannot be read. apply, revert: 0 done (or shown), 1 something
could not be done. All: 1 as well when a path leads out of --root; 2 usage.
TEXT
}

die() {
    printf 'tune.sh: %s\n' "$1" >&2
    exit 2
}

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
readonly HERE

# shellcheck source=tuning/thresholds.conf
. "$HERE/thresholds.conf"
for part in root host kinds settings state fake; do
    # shellcheck source=/dev/null
    . "$HERE/lib/$part.sh"
done

# `10-limits  Open files and locked memory`, a line for each.
list_stages() {
    local file
    for file in "$HERE"/stages/*.sh; do
        (
            OPT_IN=no note=''
            # shellcheck source=/dev/null
            . "$file"
            [[ $OPT_IN == no ]] || note=" (opt-in: only when it is named)"
            printf '  %-10s %s\n' "$(name_of "$file")" "$TITLE$note"
        )
    done
}

# stages/20-sysctl.sh -> sysctl
name_of() {
    local name=${1##*/}
    name=${name%.sh}
    printf '%s' "${name#[0-9][0-9]-}"
}

# The file of a stage that is named with or without its number.
file_of() {
    local file
    for file in "$HERE"/stages/*.sh; do
        case $1 in
        "$(name_of "$file")" | "$(basename "$file" .sh)") printf '%s' "$file" && return ;;
        esac
    done
    return 1
}

ACTION='' YES=no VERBOSE=no MARKDOWN=no ALLOW_READ_ONLY=no
ROOT='' STATE='' CORES='' LIMITS_USER=weir RUN_TOOLS_OF_ROOT=no
NICS=() WANTED_STAGES=()

while [[ $# -gt 0 ]]; do
    word=$1
    shift
    case $word in
    --*=*)
        set -- "${word#*=}" "$@"
        word=${word%%=*}
        case $word in
        --cores | --nic | --user | --state | --root) ;;
        *) die "$word: takes no value" ;;
        esac
        ;;
    esac
    case $word in
    -h | --help) usage && exit 0 ;;
    --yes | --now) YES=yes ;;
    --verbose) VERBOSE=yes ;;
    --allow-read-only) ALLOW_READ_ONLY=yes ;;
    --markdown) MARKDOWN=yes ;;
    --test-run-tools-of-root) RUN_TOOLS_OF_ROOT=yes ;;
    --cores | --nic | --user | --state | --root)
        [[ $# -gt 0 && -n $1 ]] || die "$word: a value is missing"
        case $word in
        --cores) CORES=$1 ;;
        --nic) NICS+=("$1") ;;
        --user) LIMITS_USER=$1 ;;
        --state) STATE=$1 ;;
        --root) ROOT=${1%/} ;;
        esac
        shift
        ;;
    -*) die "$word: no such option (see --help)" ;;
    check | apply | revert | explain)
        if [[ -z $ACTION ]]; then
            ACTION=$word
        else
            die "$word: one of check, apply, revert and explain, not two"
        fi
        ;;
    *)
        [[ -n $ACTION ]] || die "$word: first say what to do: check, apply, revert or explain"
        file=$(file_of "$word") || die "$word: no such stage; there are:
$(list_stages)"
        WANTED_STAGES+=("$file")
        ;;
    esac
done

[[ -n $ACTION ]] || {
    usage >&2
    exit 2
}
[[ -z $ROOT || -d $ROOT ]] || die "--root $ROOT: no such directory"
[[ -n $ROOT || $RUN_TOOLS_OF_ROOT == no ]] || die "--test-run-tools-of-root: only with --root DIR"
root_open || exit 1
[[ $LIMITS_USER =~ ^[A-Za-z_][A-Za-z0-9_.-]*$ ]] || die "--user $LIMITS_USER: letters, digits, _ . and - allowed"
IS_NAMED=yes
[[ ${#WANTED_STAGES[@]} -gt 0 ]] || { IS_NAMED=no && WANTED_STAGES=("$HERE"/stages/*.sh); }
if [[ -z $STATE ]]; then
    at /var/lib/weir-tuning || die "/var/lib/weir-tuning $REPLY (--state DIR names another place)"
    STATE=$REPLY
fi
readonly ACTION YES VERBOSE MARKDOWN ALLOW_READ_ONLY ROOT STATE LIMITS_USER RUN_TOOLS_OF_ROOT
[[ $ACTION == explain ]] || know_the_host
know_the_boot

if [[ $YES == yes && $ACTION != check && $ACTION != explain ]]; then
    [[ -n $ROOT || $(id -u) -eq 0 ]] || {
        echo "tune.sh: only root may change the host (sudo tuning/tune.sh ...)" >&2
        exit 1
    }
    state_open || exit 1
fi

# Settings of all stages together: as wanted, differ, changed, could not be changed, not here, kept by the kernel,
# differ but are nobody's wish unless it is said.
SAME=0 DIFFER=0 CHANGED=0 FAILED=0 ABSENT=0 KEPT=0 OPTIONAL=0

# `3 as wanted, 1 differs`, of the numbers since those given.
counts() {
    local text='' all=("$SAME" "$DIFFER" "$CHANGED" "$FAILED" "$KEPT" "$ABSENT" "$OPTIONAL") n count
    local words=("as wanted" "to change" "changed" "not done" "kept by the kernel" "not on this host" "opt-in")
    [[ $ACTION != check ]] || words[1]="not as wanted"
    for n in "${!all[@]}"; do
        count=$((all[n] - $1))
        shift
        [[ $count -eq 0 ]] || text+=", $count ${words[n]}"
    done
    text=${text#, }
    printf '  %s\n' "${text:-nothing to do here}"
}

for file in "${WANTED_STAGES[@]}"; do
    STAGE=$(name_of "$file") OPT_IN=no
    # Nothing of the stage before.
    TITLE='' WHY='' GAIN='' RISK='' SOURCES=''
    # shellcheck source=/dev/null
    . "$file"
    before=("$SAME" "$DIFFER" "$CHANGED" "$FAILED" "$KEPT" "$ABSENT" "$OPTIONAL")
    case $ACTION in
    explain) explain_stage ;;
    revert) : ;;
    *)
        printf '%s: %s\n' "$STAGE" "$TITLE"
        if [[ $OPT_IN == yes && $IS_NAMED == no ]]; then
            printf '  opt-in: only when it is named (tune.sh %s %s)\n' "$ACTION" "$STAGE"
            [[ $ACTION == check ]] || continue
        fi
        [[ $ACTION == check || $YES == no ]] || state_forget_old_boots
        settings
        counts "${before[@]}"
        ;;
    esac
done

if [[ $ACTION == revert ]]; then
    # Last in, first out, over stages as within each.
    for ((n = ${#WANTED_STAGES[@]} - 1; n >= 0; n--)); do
        STAGE=$(name_of "${WANTED_STAGES[n]}")
        state_revert
    done
    [[ $CHANGED -gt 0 || $FAILED -gt 0 || $DIFFER -gt 0 ]] || echo "nothing to revert: nothing is stored in $STATE"
fi
[[ $YES == no || $ACTION == check || $ACTION == explain ]] || state_close

if [[ $DIFFER -gt 0 && $ACTION != check ]]; then
    echo "$DIFFER to change; nothing has been done. With --yes it is."
fi
refused=$(root_refused)
[[ -z $refused ]] || printf 'tune.sh: left alone:\n%s\n' "$refused" >&2
[[ $FAILED -eq 0 && -z $refused ]] && [[ $ACTION != check || $DIFFER -eq 0 ]]
