# Paths below --root. There the tree is the world, as for a system that has it as its root: a link that begins with a
# slash begins at the tree. What leads out of it is neither read nor written: `..` above its root, and a link to what
# the tree does not have. Nobody else may change the tree meanwhile.
# shellcheck shell=bash

# Most links on the way, as the kernel's own limit.
readonly LINKS_MAX=40

# root_open: REFUSED_FD takes a line for each path that is refused, also from subshells.
root_open() {
    local file
    [[ -n $ROOT ]] || return 0
    ROOT=$(cd "$ROOT" && pwd -P) || return 1
    [[ $ROOT != / ]] || ROOT=''
    file=$(mktemp) && exec {REFUSED_FD}>"$file" && rm -f "$file"
}

# The refused paths, a line each.
root_refused() { [[ -z $ROOT ]] || sort -u "/proc/self/fd/$REFUSED_FD"; }

# at PATH: where it is, in REPLY. Fails when that is not in the tree; REPLY is why.
at() { find_in_root "$1" follow; }

# entry_at PATH: the same, but a link at its end is not followed.
entry_at() { find_in_root "$1" stay; }

# has PATH: is there such a file or directory? With a slash at its end: such a directory?
has() { at "$1" && [[ -e $REPLY && ($1 != */ || -d $REPLY) ]]; }

# names_in PATH [PATTERN]: what is in a directory, a name a line, in order of numbers.
names_in() {
    local dir
    at "$1" || return 0
    dir=$REPLY
    [[ -d $dir ]] || return 0
    find "$dir/" -mindepth 1 -maxdepth 1 -name "${2:-*}" -printf '%f\n' 2>/dev/null | sort -V
}

# find_in_root PATH follow|stay [LINKS]: LINKS were followed on the way here.
find_in_root() {
    REPLY=$1
    [[ -n $ROOT ]] || return 0
    local todo=$1 path='' part target links=${3:-0}
    while [[ -n $todo ]]; do
        part=${todo%%/*}
        [[ $todo == */* ]] && todo=${todo#*/} || todo=''
        case $part in
        '' | .) continue ;;
        ..)
            [[ -n $path ]] || { refuse "$1" "..${todo:+/$todo}" && return 1; }
            path=${path%/*}
            continue
            ;;
        esac
        if [[ ! -L $ROOT$path/$part || (-z $todo && $2 == stay) ]]; then
            path+=/$part
            continue
        fi
        links=$((links + 1))
        target=$(readlink "$ROOT$path/$part")
        [[ $links -le $LINKS_MAX ]] || { refuse "$1" "$target, after $LINKS_MAX links" && return 1; }
        if [[ $target == /* ]]; then
            if ! find_in_root "$target" follow "$links" || [[ ! -e $REPLY ]]; then
                refuse "$1" "$target"
                return 1
            fi
            path=${REPLY#"$ROOT"}
        else
            todo=$target${todo:+/$todo}
        fi
    done
    REPLY=$ROOT$path
}

# refuse PATH WHERE
refuse() {
    REPLY="leads out of --root $ROOT: to $2"
    printf '%s %s\n' "$1" "$REPLY" >&"$REFUSED_FD"
}
