# The steps of scripts/systemd-test.sh, in the order in which it takes them. Sourced.
# shellcheck shell=bash
# shellcheck disable=SC2154 # scratch, cgroup, rate, restarts: of the script

passed=0 failed=0 skipped=0 init=""
title() { printf '\n== %s\n' "$*"; }
say() { printf '   %s\n' "$*"; }
ok() { passed=$((passed + 1)); printf 'ok      %s\n' "$*"; }
bad() { failed=$((failed + 1)); printf 'FAILED  %s\n' "$*"; }

# held TEXT COMMAND...: the command succeeds.
held() {
    local text=$1
    shift
    if "$@"; then ok "$text"; else bad "$text  ($*)"; fi
}
is() { [[ "$1" == "$2" ]] || { say "is '$1', not '$2'"; return 1; }; }
# not COMMAND...: it fails.
not() { ! "$@"; }

# within SECONDS COMMAND...: it succeeds at some time within these.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}

inside() { nsenter -t "$init" -m -u -i -n -p -C -- "$@"; }
show() { inside systemctl show -P "$1" "${2:-weir.service}"; }
journal() { inside journalctl -q --no-pager -o cat -u "${1:-weir.service}"; }
# Lines of the unit's journal since a cursor that `mark` took.
mark() { inside journalctl -q --no-pager -n 1 --show-cursor -o cat | sed -n 's/^-- cursor: //p'; }
since() {
    local cursor=$1
    shift
    inside journalctl -q --no-pager -o cat --after-cursor "$cursor" "$@"
}
says() {
    local cursor=$1 text=$2
    since "$cursor" | grep -qF -- "$text"
}
write() { cat >"$scratch/root$1"; }

boot() {
    title "boot"
    mkdir "$cgroup"
    local boot
    boot=$(realpath scripts/systemd/boot.sh)
    # In the background, in its own cgroup, which is the root of what systemd sees.
    (
        echo "$BASHPID" >"$cgroup/cgroup.procs"
        exec unshare --mount --pid --uts --ipc --net --cgroup --fork --kill-child \
            "$boot" "$scratch/root" >"$scratch/console" 2>&1
    ) &
    outer=$!
    within 10 pgrep -P "$outer" || { cat "$scratch/console"; impossible "no namespaces here"; }
    init=$(pgrep -P "$outer")
    within 30 is_running || {
        cat "$scratch/console"
        impossible "systemd does not come up as process 1 here: $(inside systemctl is-system-running 2>&1)"
    }
    held "process 1 is systemd" is "$(inside cat /proc/1/comm)" systemd
    say "$(inside systemctl --version | head -1), $(inside systemctl is-system-running), $(uname -r)"
}
is_running() { [[ "$(inside systemctl is-system-running)" =~ ^(running|degraded)$ ]]; }

step_install() {
    title "install"
    inside sh -c 'dpkg -i /package/weir_*.deb' | sed 's/^/   /'
    held "the package is configured" is "$(inside dpkg -s weir | grep ^Status)" "Status: install ok installed"
    held "the group weir-admin is there" inside grep -q ^weir-admin: /etc/group
    held "nothing was enabled" is "$(inside systemctl is-enabled weir.service || true)" disabled
    held "systemd-analyze verify finds nothing" verify
    local exposure
    exposure=$(inside systemd-analyze security --offline=yes weir.service | tail -1)
    say "$exposure"
    held "exposure is 2.0 or lower" inside sh -c \
        'systemd-analyze security --offline=yes --threshold=20 weir.service >/dev/null'
    # Less memory, and run reports of every run in a directory.
    write /etc/weir/weir.toml <<'TOML'
[cores]
shards = 2
[memory]
arena = "32MiB"
[ledger]
report = "/var/lib/weir/now.json"
[delivery]
drain_timeout = "10s"
[logging]
log_level = "info"
TOML
    mkdir -p "$scratch/root/etc/systemd/system/weir.service.d"
    write /etc/systemd/system/weir.service.d/test.conf <<'UNIT'
[Service]
WatchdogSec=2s
TimeoutStopSec=3s
ExecStopPost=/bin/sh -c 'cd /var/lib/weir; [ ! -e now.json ] || mv now.json $INVOCATION_ID.json'
UNIT
    write /etc/systemd/system/analyzer@.service <<'UNIT'
[Service]
EnvironmentFile=-/etc/analyzer-%i
ExecStart=/usr/bin/weir analyzer --addr 127.0.0.1:8081 --id %i --weight ${WEIGHT} --report /var/lib/load/%i.json --delay ${DELAY}
Environment=WEIGHT=1 DELAY=0ms
StateDirectory=load
UNIT
    write /etc/systemd/system/emitter@.service <<'UNIT'
[Service]
EnvironmentFile=-/etc/emitter-%i
ExecStart=/usr/bin/weir emitter --addr 127.0.0.1:8080 --id %i --report /var/lib/load/e-%i.json $OPTIONS
StateDirectory=load
UNIT
    inside systemctl daemon-reload
}
verify() {
    local text
    text=$(inside systemd-analyze --man=no verify weir.service weir.socket weir-analyzers.socket weir-http.socket \
        weir-tuning.service 2>&1 | grep -v 'tuning/tune.sh is not executable: No such file' || true)
    is "$text" ""
}

step_start() {
    title "start"
    held "systemctl enable --now weir.socket weir.service" inside systemctl enable --now weir.socket weir.service
    held "active: it said READY" is "$(show ActiveState)/$(show SubState)" active/running
    for socket in weir-analyzers.socket weir-http.socket; do
        held "$socket came along" is "$(show ActiveState "$socket")" active
    done
    local ready pid
    ready=$(journal weir.service | grep -F 'ready emitters=' | tail -1 || true)
    say "$ready"
    held "it listens on all three, with two shards" grep -q 'emitters=127.0.0.1:8080 analyzers=127.0.0.1:8081 http=127.0.0.1:3000 shards=2' <<<"$ready"
    held "its lines have priorities in the journal, and no times of their own" is \
        "$(inside journalctl -q -u weir -p info..info -o cat | grep -c '^ready emitters=')" 1
    pid=$(show MainPID)
    say "user $(inside ps -o user= -p "$pid"), $(inside grep -E 'Seccomp:|CapEff' "/proc/$pid/status" | tr '\n\t' '  ')"
    held "a seccomp filter is on it" inside grep -q '^Seccomp:.*2' "/proc/$pid/status"
    held "it has no capabilities" inside grep -q '^CapEff:.*0000000000000000' "/proc/$pid/status"
    held "it is not root" test "$(inside stat -c %u "/proc/$pid")" -ne 0
    held "it is fed: WATCHDOG=1 arrives" within 5 watchdog_is_fed
    held "weir ctl status answers on its socket" answers
    load analyzers
    held "the status line has rates and analyzers" within 10 status_has "2 analyzers"
    say "Status: $(show StatusText)"
}
watchdog_is_fed() { [[ "$(show WatchdogTimestampMonotonic)" -gt 0 ]]; }
status_has() { [[ "$(show StatusText)" == *"$1"* ]]; }

# Two analyzers, or an emitter with a name.
load() {
    case "$1" in
    analyzers)
        echo WEIGHT=0.7 >"$scratch/root/etc/analyzer-a1"
        echo WEIGHT=0.3 >"$scratch/root/etc/analyzer-a2"
        inside systemctl start analyzer@a1 analyzer@a2 ;;
    emitter)
        echo "OPTIONS=$3" >"$scratch/root/etc/emitter-$2"
        inside systemctl start "emitter@$2" ;;
    esac
}
emitter_ended() { [[ "$(show ActiveState "emitter@$1")" != active ]]; }

step_reload() {
    title "reload"
    local pid cursor summary
    pid=$(show MainPID)
    load emitter reload "--rate $rate --connections 8 --batch 8 --duration 6"
    sleep 1
    cursor=$(mark)
    sed -i 's/log_level = .*/log_level = "debug"/' "$scratch/root/etc/weir/weir.toml"
    held "systemctl reload succeeds" inside systemctl reload weir.service
    held "the change is taken over" says "$cursor" 'logging.log_level: info -> debug'
    sed -i 's/log_level = .*/log_level = "info"/' "$scratch/root/etc/weir/weir.toml"
    cursor=$(mark)
    inside kill -HUP "$pid"
    held "SIGHUP does the same" within 5 says "$cursor" 'logging.log_level: debug -> info'
    held "and systemd saw RELOADING, then READY" within 5 status_has reloaded
    cursor=$(mark)
    sed -i 's/log_level = .*/log_level = "loud"/' "$scratch/root/etc/weir/weir.toml"
    held "a wrong file: systemctl reload fails" not inside systemctl reload weir.service
    held "the journal says why" says "$cursor" 'loud'
    held "the status says why" status_has 'not reloaded'
    say "Status: $(show StatusText)"
    held "it runs on" is "$(show ActiveState)/$(show MainPID)/$(show NRestarts)" "active/$pid/0"
    sed -i 's/log_level = .*/log_level = "info"/' "$scratch/root/etc/weir/weir.toml"
    inside systemctl reload weir.service
    held "the emitter ends" within 20 emitter_ended reload
    summary=$(journal emitter@reload.service | grep ' Sent ' || true)
    say "$summary"
    held "no connection was dropped" grep -q ' 0 reconnects' <<<"$summary"
}

step_watchdog() {
    title "watchdog"
    local pid cursor
    pid=$(show MainPID)
    cursor=$(mark)
    inside kill -STOP "$pid"
    say "SIGSTOP to $pid: nothing is fed any more"
    held "systemd finds it out and aborts it" within 10 says "$cursor" 'Watchdog timeout'
    held "it is started again" within 10 is_restarted "$pid"
    since "$cursor" | grep -E 'Watchdog timeout|Killing process|Main process exited|Scheduled restart' | sed 's/^/   /'
    command -v python3 >/dev/null || { skipped=$((skipped + 1)); say "SKIPPED: one shard held (no python3)"; return; }

    # One thread stands still, everything else of the process runs: the control side would be glad to feed.
    pid=$(show MainPID)
    local outside tid holder
    outside=$(outside_pid "$pid")
    # The shard and a helper that it started have the same name: the older one is the shard.
    tid=$(grep -l '^shard-1' "/proc/$outside"/task/*/comm | cut -d/ -f5 | sort -n | head -1)
    cursor=$(mark)
    mkfifo "$scratch/hold"
    python3 scripts/systemd/hold-thread.py "$tid" <"$scratch/hold" &
    holder=$!
    exec 9>"$scratch/hold"
    say "thread shard-1 is held, the others run"
    held "the other threads live: shard 0 turns, the page answers" within 2 answers
    held "one shard is enough: the watchdog is not fed" within 10 says "$cursor" 'have not turned'
    held "systemd aborts it" within 10 says "$cursor" 'Watchdog timeout'
    exec 9>&-
    wait "$holder" || true
    held "it is started again" within 10 is_restarted "$pid"
    since "$cursor" | grep -E 'have not turned|Watchdog timeout|Killing process|Main process exited' | sed 's/^/   /'
    held "analyzers are back" within 20 status_has "2 analyzers"
}
is_restarted() {
    local now
    now=$(show MainPID)
    [[ "$(show ActiveState)" == active && "$now" != 0 && "$now" != "$1" ]]
}
# The process's number outside of the namespace.
outside_pid() {
    local status
    for status in /proc/[0-9]*/status; do
        if grep -q "^NSpid:.*[[:space:]]$1\$" "$status" 2>/dev/null && grep -q '^Name:[[:space:]]*weir' "$status"; then
            status=${status#/proc/}
            echo "${status%/status}"
            return
        fi
    done
}
answers() { inside weir ctl status >/dev/null; }

# Connects all the time until the file is gone: how often, how often refused.
knock() {
    # shellcheck disable=SC2016 # of the inner shell
    inside bash -c 'n=0 refused=0
        while [ -e /tmp/knock ]; do
            if { exec 3<>/dev/tcp/127.0.0.1/"$0"; } 2>/dev/null; then n=$((n + 1)); exec 3>&-
            else refused=$((refused + 1)); fi
        done
        echo "$n $refused"' "$1" >"$scratch/knock-$1"
}

step_restart() {
    title "restart under load"
    # From here on everything has run reports: the books begin anew.
    inside systemctl stop analyzer@a1 analyzer@a2 weir.socket weir.service
    inside sh -c 'rm -rf /var/lib/weir/*.json /var/lib/load/*'
    inside systemctl start weir.socket weir.service
    load analyzers
    within 10 status_has "2 analyzers" || true
    local cursor number took began ports=(8080 8081 3000) port connects refused
    cursor=$(mark)
    load emitter run "--rate $rate --connections 32 --batch 4 --duration $((restarts * 3 + 4))"
    inside touch /tmp/knock
    for port in "${ports[@]}"; do knock "$port" & done
    sleep 2
    for ((number = 1; number <= restarts; number++)); do
        began=$(date +%s%N)
        inside systemctl restart weir.service || bad "restart $number"
        took=$((($(date +%s%N) - began) / 1000000))
        say "restart $number: systemctl restart took $took ms, main process $(show MainPID)"
        sleep 2
    done
    held "the emitter ends" within 60 emitter_ended run
    inside rm /tmp/knock
    sleep 1
    for port in "${ports[@]}"; do
        within 5 test -s "$scratch/knock-$port" || true
        read -r connects refused <"$scratch/knock-$port"
        say "port $port: $connects connections tried meanwhile, $refused refused"
        held "port $port refused nobody" is "$refused" 0
        held "port $port was knocked at" test "$connects" -gt 100
    done
    say "$(journal emitter@run.service | grep ' Sent ')"
    held "each of 32 connections was told to go, and was back, at every restart" is \
        "$(journal emitter@run.service | grep -o '[0-9]* reconnects')" "$((restarts * 32)) reconnects"
    held "no accept failed" not says "$cursor" accept_failed
    # Of their own units: the distributor warns of limits with the same word.
    held "the emitter and the analyzers were never refused" is \
        "$(since "$cursor" -u 'emitter@*' -u 'analyzer@*' | grep -ci 'refused' || true)" 0
    within 10 nothing_open || true
    inside systemctl stop analyzer@a1 analyzer@a2 weir.socket weir.service
    held "every run left a run report" is "$(inside sh -c 'ls /var/lib/weir/*.json | wc -l')" "$((restarts + 1))"
    local verdict=0
    inside sh -c 'weir audit /var/lib/weir/*.json /var/lib/load/*.json' >"$scratch/audit" 2>&1 || verdict=$?
    sed 's/^/   /' "$scratch/audit" | cut -c1-160
    held "weir audit: balanced, nothing lost" is "$verdict" 0
}
nothing_open() { status_has " 0 not acknowledged yet"; }

step_stop() {
    title "stop with drain"
    inside systemctl start weir.socket weir.service
    # 20 ms a message, some 250 messages: about 5 s of work are left when the stop comes, TimeoutStopSec= is 3 s.
    printf 'WEIGHT=1\nDELAY=20ms\n' >"$scratch/root/etc/analyzer-slow"
    inside systemctl start analyzer@slow
    within 10 status_has "1 analyzers" || true
    load emitter slow "--rate 0 --count 250"
    within 10 emitter_ended slow || true
    local began took cursor
    cursor=$(mark)
    began=$(date +%s%N)
    inside systemctl stop weir.socket weir.service
    took=$((($(date +%s%N) - began) / 1000000))
    say "systemctl stop took $took ms; TimeoutStopSec is $(show TimeoutStopUSec)"
    held "it waited for the ACKs, longer than TimeoutStopSec" test "$took" -gt 3000
    held "it was not killed, exit status 0" is "$(show Result)/$(show ExecMainStatus)" success/0
    since "$cursor" | grep -E 'draining|conservation' | sed 's/^/   /'
    held "the books: all acknowledged" says "$cursor" 'received 250 = acked 250 + in flight 0 + queued 0 + dropped 0'

    # Nobody to acknowledge: the drain time-out ends it, status 3, which is no failure of the unit.
    inside systemctl stop analyzer@slow
    sed -i 's/^drain_timeout = .*/drain_timeout = "2s"/' "$scratch/root/etc/weir/weir.toml"
    inside systemctl start weir.socket weir.service
    load emitter lost "--rate 0 --count 10 --duration 2"
    inside systemctl stop weir.socket weir.service
    held "messages left: exit status 3, and the unit has not failed" is \
        "$(show ExecMainStatus)/$(show Result)/$(show ActiveState)" 3/success/inactive
    journal weir.service | grep -E 'abandoned' | tail -1 | sed 's/^/   /'
}

# A drop-in of weir.service out of systemd/examples.
drop_in() { cp "systemd/examples/$1" "$scratch/root/etc/systemd/system/weir.service.d/$1"; }
# Certificates of one CA; the names stand in the first argument, the files have the first of them.
certificate() { inside weir cert --dir /etc/weir/made --name "$1" "${@:2}" >/dev/null; }
# Puts a pair where the service looks, as what renews it does: another file at once.
renew() {
    local pair name
    for pair in "$1.pem tls.crt" "$1.key tls.key"; do
        name=${pair#* }
        inside sh -c "cp -p /etc/weir/made/${pair% *} /etc/weir/tls/$name.new && chgrp --reference=/etc/weir/tls /etc/weir/tls/$name.new &&
            chmod $2 /etc/weir/tls/$name.new && mv /etc/weir/tls/$name.new /etc/weir/tls/$name"
    done
}
# Serial number of the certificate that is served.
serial() {
    inside bash -c 'exec 3<>/dev/tcp/127.0.0.1/3000
        printf "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" >&3; cat <&3' |
        grep -o 'serial="[^"]*"' | head -1
}

step_tls() {
    title "tls"
    local cursor pid summary tree=$scratch/root
    inside systemctl stop weir.socket weir.service 2>/dev/null
    inside mkdir -m 750 /etc/weir/tls
    certificate localhost --client web1
    certificate next.example,localhost
    certificate after.example,localhost
    cp -p "$tree/etc/weir/made/ca.pem" "$tree/etc/weir/tls/ca.crt"
    renew localhost 600
    drop_in tls.conf
    cp "$tree/etc/weir/weir.toml" "$scratch/weir.toml"
    cat >>"$tree/etc/weir/weir.toml" <<'TOML'
[tls]
emitters_tls = "required"
tls_cert = "credential:tls.crt"
tls_key = "credential:tls.key"
tls_client_ca = "credential:ca.crt"
TOML
    inside systemctl daemon-reload
    cursor=$(mark)
    held "with examples/tls.conf it starts" inside systemctl start weir.socket weir.service
    [[ "$(show ActiveState)" == active ]] || since "$cursor" | tail -20 | sed 's/^/   /'
    held "systemd-analyze verify finds nothing" verify
    held "the key is root's alone" is "$(inside stat -c %U:%a /etc/weir/tls/tls.key)" root:600
    held "nobody warns of it" is "$(journal | grep -c 'can read this key' || true)" 0
    held "weir check, by root, looks at what the unit has" inside sh -c "weir check /etc/weir/weir.toml >/dev/null"
    held "and elsewhere where it is told to" inside sh -c \
        "CREDENTIALS_DIRECTORY=/etc/weir/tls weir check /etc/weir/weir.toml >/dev/null"
    load analyzers
    within 10 status_has "2 analyzers" || true
    local shown="--tls --tls-ca /etc/weir/made/ca.pem"
    sed -i 's/127.0.0.1:8080/localhost:8080/' "$tree/etc/systemd/system/emitter@.service"
    inside systemctl daemon-reload
    load emitter tls "--rate 0 --count 1000 $shown --tls-cert /etc/weir/made/web1.pem --tls-key /etc/weir/made/web1.key"
    held "an emitter with a certificate sends" within 10 emitter_ended tls
    say "$(journal emitter@tls.service | grep ' Sent ')"
    held "all of it" grep -q 'Sent 1000 messages' <<<"$(journal emitter@tls.service)"
    # What systemd has handed over stays until a restart.
    local was
    cursor=$(mark) was=$(serial)
    renew next.example 600
    held "systemctl restart" inside systemctl restart weir.service
    say "was $was, is $(serial)"
    held "takes over what was renewed" test "$was" != "$(serial)"
    held "the journal has not one error" is "$(since "$cursor" -u weir.service -p err | grep -c . || true)" 0

    # Files that a group of the service can read are followed.
    inside groupadd --system weir-tls 2>/dev/null || inside sh -c 'echo weir-tls:x:980: >>/etc/group'
    rm "$tree/etc/systemd/system/weir.service.d/tls.conf"
    drop_in tls-files.conf
    inside chgrp -R weir-tls /etc/weir/tls
    inside chmod 640 /etc/weir/tls/ca.crt
    renew next.example 640
    sed -i 's#"credential:#"tls/#' "$tree/etc/weir/weir.toml"
    inside systemctl daemon-reload
    held "with examples/tls-files.conf it starts" inside systemctl restart weir.service
    pid=$(show MainPID)
    within 10 status_has "2 analyzers" || true
    load emitter renewed "--rate $rate --connections 8 --batch 8 --duration 6 $shown --tls-cert /etc/weir/made/web1.pem --tls-key /etc/weir/made/web1.key"
    sleep 2
    cursor=$(mark)
    renew after.example 640
    held "a renewed certificate is shown within 2 s" within 2 says "$cursor" 'new connections are shown the certificate'
    say "$(since "$cursor" | grep -F 'are shown the certificate' | tail -1)"
    cursor=$(mark)
    inside cp /etc/weir/made/ca.key /etc/weir/tls/tls.key
    held "a pair that does not fit is named" within 3 says "$cursor" 'it is not the key of'
    held "it runs on" is "$(show ActiveState)/$(show MainPID)" "active/$pid"
    held "the emitter ends" within 20 emitter_ended renewed
    summary=$(journal emitter@renewed.service | grep ' Sent ' || true)
    say "$summary"
    held "no connection was dropped" grep -q ' 0 reconnects' <<<"$summary"
    inside systemctl stop analyzer@a1 analyzer@a2 weir.socket weir.service
    rm "$tree/etc/systemd/system/weir.service.d/tls-files.conf"
    sed -i 's/localhost:8080/127.0.0.1:8080/' "$tree/etc/systemd/system/emitter@.service"
    cp "$scratch/weir.toml" "$tree/etc/weir/weir.toml"
    inside systemctl daemon-reload
}

# Of the network namespace, so the host's stays: somaxconn and what else tcp has of its own there.
somaxconn() { inside cat /proc/sys/net/core/somaxconn; }
step_tuning() {
    title "tuning"
    local was cursor tree=$scratch/root
    inside sh -c 'echo 128 >/proc/sys/net/core/somaxconn'
    was=$(inside sysctl net.core net.ipv4)
    mkdir -p "$tree/etc/security/limits.d"
    echo 'TUNING_OPTIONS=sysctl limits' >>"$tree/etc/default/weir"
    held "systemctl start weir-tuning" inside systemctl start weir-tuning.service
    held "applied" is "$(somaxconn)" 16384
    inside systemctl stop weir-tuning.service
    held "stopped: every sysctl is as it was" is "$(inside sysctl net.core net.ipv4)" "$was"
    # The second stage fails: a directory lies where its file would be.
    mkdir "$tree/etc/security/limits.d/90-weir.conf"
    cursor=$(mark)
    held "an apply that fails half way: the unit fails" not inside systemctl start weir-tuning.service
    held "it had applied what comes before" says "$cursor" 'changed   net.core.somaxconn'
    held "and every sysctl is as it was" is "$(inside sysctl net.core net.ipv4)" "$was"
    since "$cursor" | grep -E 'failed|restored +net.core.somaxconn' | sed 's/^/   /'
    rmdir "$tree/etc/security/limits.d/90-weir.conf"
    inside systemctl reset-failed weir-tuning.service

    mkdir -p "$tree/etc/systemd/system/weir.slice.d"
    # Here is no cpuset, and not ten cores: the slice is what can be seen.
    sed -e 's/^Environment=.*//' systemd/examples/isolate.conf >"$tree/etc/systemd/system/weir.service.d/isolate.conf"
    cp systemd/examples/weir-slice.conf "$tree/etc/systemd/system/weir.slice.d/"
    inside systemctl daemon-reload
    held "with examples/isolate.conf it starts" inside systemctl start weir.service
    held "in weir.slice" is "$(show ControlGroup)" /weir.slice/weir.service
    inside systemctl stop weir.socket weir.service
    rm -r "$tree/etc/systemd/system/weir.slice.d" "$tree/etc/systemd/system/weir.service.d/isolate.conf"
    inside systemctl daemon-reload
}

step_failure() {
    title "failure"
    local cursor
    cursor=$(mark)
    sed -i 's/^arena = .*/arena = "1KiB"/' "$scratch/root/etc/weir/weir.toml"
    held "a wrong weir.toml does not start" not inside systemctl start weir.service
    held "the journal names file, line, key and what is allowed" says "$cursor" 'weir.toml:4'
    since "$cursor" | grep -F 'weir.toml:4' | head -1 | sed 's/^/   /'
    # Longer than five tries take.
    inside systemctl start weir.socket
    sleep 12
    held "the sockets still listen" is "$(show ActiveState weir.socket)" active
    held "who connects waits" inside bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080'
    sed -i 's/^arena = .*/arena = "16MiB"/' "$scratch/root/etc/weir/weir.toml"
    sleep 8
    held "a file that is mended is enough" is "$(show ActiveState)" active
    inside systemctl stop weir.service weir.socket 2>/dev/null || true
    title "removal"
    # Not every setting can be changed in a namespace; the one that is looked at can.
    inside /usr/share/weir/tuning/tune.sh apply sysctl --yes >/dev/null || true
    held "host settings applied by hand" is "$(somaxconn)" 16384
    inside dpkg --purge weir 2>&1 | sed 's/^/   /'
    held "the removal has put them back" is "$(somaxconn)" 128
    held "and nothing is stored any more" not inside test -e /var/lib/weir-tuning
    held "nothing of it is left but run reports" is \
        "$(inside sh -c 'ls -d /usr/bin/weir /etc/weir /usr/lib/systemd/system/weir* 2>/dev/null' || true)" ""
}
