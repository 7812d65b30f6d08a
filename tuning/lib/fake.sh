# What a kernel does by itself when something is written, for trees given by --root: there is none behind them.
# shellcheck shell=bash

# Moves the brackets of `[always] madvise never`.
fake_choice() {
    local word out=()
    read -ra words <"$ROOT$1"
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
    printf '\n' >"$ROOT$1/cpuset.cpus"
    printf 'member\n' >"$ROOT$1/cpuset.cpus.partition"
}

# And they go with it.
fake_cgroup_gone() { rm -f "$ROOT$1/cpuset.cpus" "$ROOT$1/cpuset.cpus.partition"; }
