# What the host has: CPUs, network interfaces, interrupts. Paths are those of the host: root.sh knows where they are.
# shellcheck shell=bash

# First line of a file, or nothing.
first_line() {
    local line=''
    at "$1" && [[ -f $REPLY && -r $REPLY ]] && { IFS= read -r line <"$REPLY" || true; } 2>/dev/null
    printf '%s' "$line"
}

# `0-2,5` -> `0 1 2 5 `, in order, each once. Fails if it is no such list.
cpus_of_list() {
    local part all=()
    for part in ${1//,/ }; do
        [[ $part =~ ^([0-9]{1,4})(-([0-9]{1,4}))?$ ]] || return 1
        local from=$((10#${BASH_REMATCH[1]})) to=${BASH_REMATCH[3]:-${BASH_REMATCH[1]}}
        to=$((10#$to))
        [[ $from -le $to ]] || return 1
        while [[ $from -le $to ]]; do
            all[from]=$from
            from=$((from + 1))
        done
    done
    [[ ${#all[@]} -eq 0 ]] || printf '%d ' "${all[@]}"
}

# `0 1 2 5` -> `0-2,5`
list_of_cpus() {
    local cpu first='' last='' out=''
    for cpu in "$@" end; do
        if [[ -n $last && $cpu == $((last + 1)) ]]; then
            last=$cpu
            continue
        fi
        [[ -z $first ]] || out+=,$first$([[ $first == "$last" ]] || printf -- '-%s' "$last")
        first=$cpu last=$cpu
    done
    printf '%s' "${out#,}"
}

# `0 1 33` -> `2,00000003`: hexadecimal words of 32 CPUs, the lowest last, as the kernel writes them.
# CPUs in order.
mask_of_cpus() {
    local cpu=0 words=(0) n out=''
    for cpu in "$@"; do
        words[cpu / 32]=$((${words[cpu / 32]:-0} | 1 << cpu % 32))
    done
    for ((n = cpu / 32; n >= 0; n--)); do
        out+=,$(printf '%08x' "${words[n]:-0}")
    done
    out=${out#,}
    while [[ $out == 0?* && $out != 0,* ]]; do out=${out#0}; done
    printf '%s' "$out"
}

# `2,00000003` -> `0 1 33 `
cpus_of_mask() {
    local words word n=0 bit
    [[ $1 =~ ^[0-9a-fA-F]{1,8}(,[0-9a-fA-F]{1,8})*$ ]] || return 1
    IFS=, read -ra words <<<"$1"
    for ((word = ${#words[@]} - 1; word >= 0; word--, n++)); do
        for ((bit = 0; bit < 32; bit++)); do
            ((16#${words[word]} >> bit & 1)) && printf '%d ' $((n * 32 + bit))
        done
    done
    return 0
}

# Sets ONLINE, WEIR_CPUS, OTHER_CPUS (those that are not Weir's) and NICS; ends with usage errors.
know_the_host() {
    local cpu nic cpus
    cpus=$(cpus_of_list "$(first_line /sys/devices/system/cpu/online)") || cpus=
    read -ra ONLINE <<<"$cpus"
    WEIR_CPUS=("${ONLINE[@]}") OTHER_CPUS=()
    if [[ -n $CORES ]]; then
        cpus=$(cpus_of_list "$CORES") || cpus=
        [[ -n $cpus ]] || die "--cores $CORES: numbers and ranges allowed, such as 2-7 or 2,3"
        read -ra WEIR_CPUS <<<"$cpus"
        for cpu in "${WEIR_CPUS[@]}"; do
            [[ " ${ONLINE[*]} " == *" $cpu "* ]] ||
                die "--cores $CORES: there is no core $cpu (there are: $(list_of_cpus "${ONLINE[@]}"))"
        done
        for cpu in "${ONLINE[@]}"; do
            [[ " ${WEIR_CPUS[*]} " == *" $cpu "* ]] || OTHER_CPUS+=("$cpu")
        done
    fi
    for nic in "${NICS[@]}"; do
        [[ $nic == */* ]] || ! has "/sys/class/net/$nic/" || continue
        die "--nic $nic: no such interface (there are: $(names_in /sys/class/net | tr '\n' ' ' | sed 's/ $//'))"
    done
    [[ ${#NICS[@]} -eq 0 ]] || return 0
    for nic in $(names_in /sys/class/net); do
        has "/sys/class/net/$nic/device" || continue
        [[ $(first_line "/sys/class/net/$nic/operstate") == down ]] || NICS+=("$nic")
    done
}

# Numbers of an interface's interrupts, in order. Those of virtio belong to the device above.
irqs_of_nic() {
    local dir
    for dir in "/sys/class/net/$1/device/msi_irqs" "/sys/class/net/$1/device/../msi_irqs"; do
        has "$dir" && names_in "$dir" && return
    done
}

# Numbers of the interrupts that somebody handles: they have a directory with the handler's name.
irqs_in_use() {
    local dir
    at /proc/irq || return 0
    dir=$REPLY
    find "$dir/" -mindepth 2 -maxdepth 2 -type d -printf '%P\n' 2>/dev/null | sed 's|/.*||' | sort -n -u
}

# The first who handles an interrupt, of its directory in /proc.
handler_of_irq() {
    local dir
    at "$1" || return 0
    for dir in "$REPLY"/*/; do
        [[ ! -d $dir ]] || basename "$dir"
        return
    done
}

# Is there a process of this name?
runs() {
    local pid name
    for pid in $(names_in /proc '[0-9]*'); do
        { at "/proc/$pid/comm" && read -r name <"$REPLY" && [[ $name == "$1" ]] && return 0; } 2>/dev/null
    done
    return 1
}

# How many queues of a direction (rx, tx) an interface has.
queues_of_nic() { names_in "/sys/class/net/$1/queues" "$2-*" | wc -l; }

# Path of a tool, or fails. With --root there is none: the host's own would show the host, and a program of the tree may
# be anybody's. Tests have one that they wrote themselves.
tool() {
    if [[ -n $ROOT ]]; then
        [[ $RUN_TOOLS_OF_ROOT == yes ]] && at "/usr/sbin/$1" && [[ -x $REPLY ]] && printf '%s' "$REPLY"
    else
        PATH=$PATH:/usr/sbin:/sbin command -v "$1"
    fi
}
