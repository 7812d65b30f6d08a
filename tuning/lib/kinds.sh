# The kinds of settings. For each kind k:
#
#   raw_k WHAT           all of what is there, to standard output: what is stored
#   show_k WHAT          the same for people, on one line
#   ok_k WHAT WANTED     is it as wanted?
#   write_k WHAT WANTED  makes it so
#   restore_k WHAT       puts back what comes from standard input
#
# Where a kind has none of these, it is that of any file: of_kind finds it. WHAT is a path of the host's (root.sh: at),
# or a name with a colon: nic:eth0:combined. A kernel file is written by one write(2).
# shellcheck shell=bash

# of_kind VERB KIND WHAT...: show_number, or else show_file. Only ok_ is of each kind.
of_kind() {
    local function=$1_$2
    declare -F "$function" >/dev/null || function=$1_file
    shift 2
    "$function" "$@"
}

# --- Any file of the kernel ------------------------------------------------------------------------------------------

raw_file() { at "$1" && cat "$REPLY"; }
restore_file() { at "$1" && cat >"$REPLY"; }
# On one line, white space as single spaces.
show_file() {
    local words=()
    at "$1" && read -r -d '' -a words <"$REPLY"
    printf '%s' "${words[*]-}"
}
write_file() { at "$1" && printf '%s\n' "$2" >"$REPLY"; }

# --- number: exactly this; minimum: at least this --------------------------------------------------------------------

ok_number() { [[ $(show_file "$1") == "$2" ]]; }

ok_minimum() {
    local is
    is=$(show_file "$1")
    [[ $is =~ ^[0-9]+$ ]] && at_least "$is" "$2"
}

# Also of numbers that bash cannot hold: fs.file-max may be 2^64 - 1.
at_least() {
    [[ ${#1} -gt 18 || $1 -ge $2 ]]
}

# --- last: the last of several numbers is at least this, the others stay ---------------------------------------------

ok_last() {
    local is
    is=$(show_file "$1")
    at_least "${is##* }" "$2"
}
write_last() {
    local is
    is=$(show_file "$1")
    write_file "$1" "${is% *} $2"
}

# --- ceiling: a limit in microseconds where 0 means none and n/a the strictest ---------------------------------------

ok_ceiling() {
    local is
    is=$(show_file "$1")
    [[ $is == n/a ]] || [[ $is =~ ^[0-9]+$ && $is -gt 0 && $is -le $2 ]]
}

# --- choice: `always [madvise] never`; wanted `madvise|always`: the first is written, the others will do -------------

show_choice() {
    local is
    is=$(show_file "$1")
    [[ $is != *'['* ]] || is=${is#*[} is=${is%]*}
    printf '%s' "$is"
}
ok_choice() { [[ "|$2|" == *"|$(show_choice "$1")|"* ]]; }
write_choice() {
    if [[ -n $ROOT ]]; then
        fake_choice "$1" "${2%%|*}"
    else
        write_file "$1" "${2%%|*}"
    fi
}
restore_choice() {
    local was
    [[ -z $ROOT ]] || { restore_file "$1" && return; }
    IFS= read -r was || true
    [[ $was != *'['* ]] || was=${was#*[} was=${was%%]*}
    write_file "$1" "$was"
}

# --- mask: a set of CPUs as hexadecimal words; irq: the CPUs of an interrupt, wanted `3|2-3`: 3 is written, any of 2-3
# will do. A kernel may refuse the second: it moves some interrupts itself. -------------------------------------------

ok_mask() { [[ $(cpus_of_mask "$(show_file "$1")") == "$(cpus_of_mask "$2")" ]]; }

ok_irq() {
    local cpu allowed
    allowed=" $(cpus_of_list "${2#*|}")"
    for cpu in $(cpus_of_list "$(show_file "$1")"); do
        [[ $allowed == *" $cpu "* ]] || return 1
    done
}
write_irq() { write_file "$1" "${2%%|*}"; }

# --- whole: a file that is all ours, wanted with \n. What was there is stored with a line in front, and comes back with
# its mode and owner: `nothing`, `file MODE UID GID`, `link UID GID` (then what it leads to, which is never touched). ------

raw_whole() {
    local path uid gid mode
    entry_at "$1" || return
    path=$REPLY
    [[ -e $path || -L $path ]] || { echo nothing && return; }
    read -r uid gid mode < <(stat -c '%u %g %a' "$path")
    if [[ $uid != "$EUID" && $EUID -ne 0 ]]; then
        echo "only root can give it back to its owner ($uid)" >&2
        return 1
    elif [[ -L $path ]]; then
        printf 'link %s %s\n' "$uid" "$gid" && readlink -n "$path"
    elif [[ -f $path ]]; then
        printf 'file %s %s %s\n' "$mode" "$uid" "$gid" && cat "$path"
    else
        echo "it is neither a file nor a link" >&2
        return 1
    fi
}
show_whole() {
    local path kind
    read -r kind < <(raw_whole "$1" 2>/dev/null)
    entry_at "$1" && path=$REPLY
    case $kind in
    nothing) printf 'not there' ;;
    link*) printf 'link to %s' "$(readlink "$path")" ;;
    file*) printf 'file, mode %s, of %s, %s lines' "$(stat -c %a "$path")" "$(stat -c %u:%g "$path")" "$(wc -l <"$path")" ;;
    *) printf 'neither a file nor a link of yours' ;;
    esac
}
ok_whole() { at "$1" && [[ -f $REPLY ]] && printf '%b' "$2" | cmp -s - "$REPLY"; }
write_whole() { printf '%b' "$2" | put_whole "$1" file 644 "$EUID" "$(id -g)"; }
restore_whole() {
    local was
    read -r -a was
    if [[ ${was[0]} == nothing ]]; then
        entry_at "$1" && rm -f "$REPLY" "$(beside "$REPLY")"
    else
        put_whole "$1" "${was[@]}"
    fi
}
# put_whole PATH file MODE UID GID, or link UID GID: what comes from standard input, written beside it, then renamed.
put_whole() {
    local path new
    entry_at "$1" || return
    path=$REPLY
    new=$(beside "$path")
    rm -f "$new" || return
    case $2 in
    file)
        (umask 077 && set -o noclobber && cat >"$new") && chown "$4:$5" "$new" && chmod "$3" "$new" && sync "$new"
        ;;
    link) ln -s "$(cat)" "$new" && chown -h "$3:$4" "$new" ;;
    esac && mv -T "$new" "$path"
}
# Where it is written before it is renamed.
beside() { printf '%s' "${1%/*}/.${1##*/}.new"; }

# --- directory: a control group; controller: one that its children have ----------------------------------------------

raw_directory() { :; }
show_directory() { ok_directory "$1" && printf there || printf 'not there'; }
ok_directory() { at "$1" && [[ -d $REPLY ]]; }
write_directory() { at "$1" && mkdir "$REPLY" && { [[ -z $ROOT ]] || fake_cgroup "$1"; }; }
restore_directory() {
    ok_directory "$1" || return 0
    [[ -z $ROOT ]] || fake_cgroup_gone "$1"
    at "$1" && rmdir "$REPLY"
}

ok_controller() { [[ " $(show_file "$1") " == *" $2 "* ]]; }
write_controller() {
    if [[ -n $ROOT ]]; then
        write_file "$1" "$(show_file "$1" | sed 's/$/ /')$2"
    else
        write_file "$1" "+$2"
    fi
}
# Only of use where it was not there: otherwise it is as wanted, and nothing is stored.
restore_controller() {
    [[ -z $ROOT ]] || { restore_file "$1" && return; }
    write_file "$1" "-cpuset"
}

# --- channels, coalesce: what ethtool knows, nic:eth0:combined and nic:eth0:adaptive-rx ------------------------------

nic_of() {
    local name=${1#nic:}
    printf '%s' "${name%:*}"
}
# restore_nic KIND WHAT. Some drivers reset the interface even when nothing changes: then nothing is written.
restore_nic() {
    local was
    read -r was
    [[ $("show_$1" "$2") == "$was" ]] || "write_$1" "$2" "$was"
}

raw_channels() { show_channels "$1"; }
# Current number of combined channels; with `max` the most that there can be. Nothing if there are none.
show_channels() {
    local ethtool
    ethtool=$(tool ethtool) || return 1
    "$ethtool" -l "$(nic_of "$1")" 2>/dev/null | awk -v what="${2-}" '
        /^Pre-set/ { part = "max" } /^Current/ { part = "" }
        $1 == "Combined:" && part == what && $2 ~ /^[0-9]+$/ { print $2 }'
}
ok_channels() { [[ $(show_channels "$1") -ge $2 ]]; }
write_channels() { "$(tool ethtool)" -L "$(nic_of "$1")" combined "$2"; }
restore_channels() { restore_nic channels "$1"; }

raw_coalesce() { show_coalesce "$1"; }
# on or off; nothing if the driver has no such thing.
show_coalesce() {
    local ethtool
    ethtool=$(tool ethtool) || return 1
    "$ethtool" -c "$(nic_of "$1")" 2>/dev/null | awk -v what="${1##*:}" '
        $1 == "Adaptive" { value["adaptive-rx"] = $3; value["adaptive-tx"] = $5 }
        END { if (value[what] ~ /^(on|off)$/) print value[what] }'
}
ok_coalesce() { [[ $(show_coalesce "$1") == "$2" ]]; }
write_coalesce() { "$(tool ethtool)" -C "$(nic_of "$1")" "${1##*:}" "$2"; }
restore_coalesce() { restore_nic coalesce "$1"; }

# --- cpus: a set of CPUs as a list ---------------------------------------------------------------------------------------

ok_cpus() { [[ $(cpus_of_list "$(show_file "$1")") == "$(cpus_of_list "$2")" ]]; }

# --- route: quickack or not, of route:TABLE:INTERFACE:DESTINATION; IPv6 is told by the colons of its destinations -------

# ip_route TABLE DESTINATION VERB...: `default` is IPv4's, IPv6's is called ::/0 here.
ip_route() {
    local family=-4 table=$1
    [[ $2 != *:* ]] || family=-6
    shift 2
    "$(tool ip)" $family route "$@" table "$table"
}

# routes_of TABLE INTERFACE: those that can be changed without touching another, a line each. `ip route replace` takes the
# first route of the same destination, whatever its interface: so only destinations that the table has once. Left alone
# are those with several next hops, those that the kernel learned for a time, those with metric 0, which cannot be asked
# for, with marks that ip shows and does not read, and those that are of no use to TCP (broadcast, unreachable).
routes_of() {
    local ip family
    ip=$(tool ip) || return 0
    for family in -4 -6; do
        "$ip" $family route show table "$1" 2>/dev/null | NIC=$2 awk -v table="$1" -v family="$family" '
            /^[ \t]/ { next }
            { to = $1 ~ /^(local|unicast|broadcast|multicast|anycast|unreachable|blackhole|prohibit|throw)$/ ? $2 : $1
              seen[to]++ }
            /^(broadcast|multicast|anycast|unreachable|blackhole|prohibit|throw) / { next }
            / (expires|nexthop|nhid|linkdown|dead|metric 0|offload|trap|rt_offload|rt_trap|offload_failed) / { next }
            to ~ /^(ff|fe80)/ || index($0 " ", " dev " ENVIRON["NIC"] " ") == 0 { next }
            { order[NR] = to }
            END {
                for (n = 1; n <= NR; n++) {
                    if (order[n] == "" || seen[order[n]] != 1) continue
                    to = order[n]
                    if (family == "-6" && to == "default") to = "::/0"
                    if (family == "-6" && to !~ /:/) continue
                    print "route:" table ":" ENVIRON["NIC"] ":" to
                }
            }'
    done
}

# The line of ip route, as it is now.
line_of_route() {
    local table nic to line
    IFS=: read -r _ table nic to <<<"$1"
    while IFS= read -r line; do
        [[ " ${line% } " != *" dev $nic "* ]] || printf '%s\n' "${line% }"
    done < <(ip_route "$table" "$to" show exact "$to" 2>/dev/null)
}
raw_route() { show_route "$1"; }
show_route() {
    local line
    line=$(line_of_route "$1")
    case $line in
    '') printf 'no route' ;;
    *$'\n'*) printf 'several routes' ;;
    *' quickack 1'*) printf quickack ;;
    *) printf 'no quickack' ;;
    esac
}
ok_route() { [[ $(show_route "$1") == "$2" ]]; }
write_route() {
    local line
    line=$(line_of_route "$1")
    put_route "$1" "$line quickack 1"
}
# Only the word is ours. The route itself may be another by now (a new gateway, a new address), or gone: it stays so.
restore_route() {
    local line
    cat >/dev/null
    line=$(line_of_route "$1")
    [[ $line == *' quickack 1'* && $line != *$'\n'* ]] || return 0
    put_route "$1" "${line/ quickack 1/}"
}
# put_route WHAT LINE
put_route() {
    local table nic to words
    IFS=: read -r _ table nic to <<<"$1"
    read -ra words <<<"$2"
    ip_route "$table" "$to" replace "${words[@]}"
}
