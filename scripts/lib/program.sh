# Is that one of Weir's programs? For scripts/install.sh and scripts/deb.sh. Sourced.
# shellcheck shell=bash

# why_not NAME PATH: fails when PATH is not a program of this NAME; REPLY says what it is, and what is allowed.
why_not() {
    local name=$1 path=$2 says
    local allowed="allowed: a $name that runs here, such as target/release/$name"
    if [[ ! -e "$path" ]]; then
        REPLY="no such file; $allowed"
    elif [[ ! -f "$path" || ! -x "$path" ]]; then
        REPLY="not an executable file; $allowed"
    elif ! says=$("$path" --version 2>&1 | head -1) || [[ "$says" != "$name "[0-9]* ]]; then
        REPLY="not a $name (--version says '${says:0:60}'); $allowed"
    else
        return 0
    fi
    return 1
}
