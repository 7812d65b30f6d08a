# What a kernel does by itself when something is written, for trees given by --root: there is none behind them.
# shellcheck shell=bash

# Moves the brackets of `[always] madvise never`.
fake_choice() {
    local word words=() out=()
    at "$1" && read -ra words <"$REPLY"
    for word in "${words[@]}"; do
        word=${word#[} word=${word%]}
        [[ $word != "$2" ]] || word=[$word]
        out+=("$word")
    done
    [[ ${#out[@]} -gt 1 ]] || out=("$2")
    write_file "$1" "${out[*]}"
}

# A new control group comes with files.
fake_cgroup() {
    write_file "$1/cpuset.cpus" ''
    write_file "$1/cpuset.cpus.partition" member
}

# And they go with it.
fake_cgroup_gone() { at "$1" && rm -f "$REPLY/cpuset.cpus" "$REPLY/cpuset.cpus.partition"; }
