#!/usr/bin/env bash
# Inside the namespaces of scripts/containers-test.sh: the engine, and the steps.
# Arguments: scratch directory, store, cargo's profile, seconds that emitters send, a program or nothing.
set -euo pipefail
scratch=$1 store=$2 profile=$3 seconds=$4 weir=$5

passed=0 failed=0
title() { printf '\n== %s\n' "$*"; }
say() { printf '   %s\n' "$*"; }
held() { passed=$((passed + 1)); printf 'ok %s\n' "$*"; }
broken() { failed=$((failed + 1)); printf 'NOT OK %s\n' "$*"; }
# check WORDS COMMAND...: does the command succeed?
check() {
    local words=$1
    shift
    if "$@"; then held "$words"; else broken "$words"; fi
}
# same WORDS WANTED GOT
same() { if [[ "$2" == "$3" ]]; then held "$1"; else broken "$1: wanted '$2', got '$3'"; fi; }

export DOCKER_HOST=unix://$scratch/docker.sock COMPOSE_PROJECT_NAME=weirtest DOCKER_BUILDKIT=0
export COMPOSE_PARALLEL_LIMIT=16 COMPOSE_HTTP_TIMEOUT=120
base=rust:1-bookworm

start_engine() {
    ip link set lo up
    # A resolver that is reached, as on a host with a network: it knows no name. (The engine knows its own.)
    ip address add 192.0.2.53/32 dev lo
    python3 scripts/containers/no-names.py 192.0.2.53 &
    mkdir -p "$store/engine"
    dockerd --host "$DOCKER_HOST" --data-root "$store/engine" --exec-root "$scratch/exec" \
        --pidfile "$scratch/docker.pid" --log-level warn --dns 192.0.2.53 >"$scratch/dockerd.log" 2>&1 &
    engine=$!
    for _ in {1..300}; do
        docker version >/dev/null 2>&1 && return
        kill -0 "$engine" 2>/dev/null || break
        sleep 0.1
    done
    tail -n 20 "$scratch/dockerd.log" >&2
    echo "containers-test: the engine does not come up" >&2
    exit 1
}

# Ends what this script started, so that the store can be used again.
# shellcheck disable=SC2317,SC2329 # called by the trap
stop_engine() {
    docker-compose --profile observe down --volumes --timeout 1 >/dev/null 2>&1 || true
    kill -TERM "$engine" 2>/dev/null || true
    wait "$engine" 2>/dev/null || true
}

import_base() {
    local mark
    mark=$(cat "$store/base.mark")
    if [[ "$(docker image inspect --format '{{.Comment}}' weirtest-base 2>/dev/null)" != "$mark" ]]; then
        docker import --message "$mark" \
            --change 'ENV PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
            --change 'ENV CARGO_HOME=/usr/local/cargo RUSTUP_HOME=/usr/local/rustup CARGO_NET_OFFLINE=true' \
            "$store/base.tar" weirtest-base >/dev/null
    fi
    docker tag weirtest-base "$base"
    docker import --change 'ENTRYPOINT ["/bin/prometheus"]' --change 'USER 65534:65534' "$store/prometheus.tar" \
        "$(docker-compose --profile observe config | sed -n 's/.*image: \(prom.*\)/\1/p')" >/dev/null
    [[ -z "$weir" ]] || prebuilt
}

# A base whose `cargo rustc` gives the program that was named.
prebuilt() {
    mkdir "$scratch/prebuilt"
    cp "$weir" "$scratch/prebuilt/weir"
    cat >"$scratch/prebuilt/cargo" <<'CARGO'
#!/bin/sh
[ "$1" = rustc ] || exec /usr/local/rustup/toolchains/this/bin/cargo "$@"
mkdir -p target/prebuilt && cp /prebuilt/weir target/prebuilt/
CARGO
    chmod 755 "$scratch/prebuilt/cargo"
    printf '%s\n' 'FROM weirtest-base' 'COPY weir /prebuilt/' 'RUN rm /usr/local/cargo/bin/cargo' \
        'COPY cargo /usr/local/cargo/bin/' >"$scratch/prebuilt/Dockerfile"
    docker build --quiet --tag "$base" "$scratch/prebuilt" >/dev/null 2>&1
}

# Containers of the services that are named; of all without a name.
containers() { docker-compose ps --quiet "$@"; }

state() { docker inspect --format "$1" "$2"; }

# of_process CONTAINER FIELD: a line of its first process's status.
of_process() { awk -v field="$2:" '$1 == field {print $2}' "/proc/$(state '{{.State.Pid}}' "$1")/status"; }

# until_true SECONDS COMMAND...
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.2
    done
}

step_build() {
    title "build"
    local began=$SECONDS size user
    docker-compose build >"$scratch/build.log" 2>&1 ||
        { tail -n 40 "$scratch/build.log" >&2; echo "containers-test: the image does not build" >&2; exit 1; }
    say "${weir:-profile $profile}, $((SECONDS - began)) s"
    size=$(docker image inspect --format '{{.Size}}' weir)
    check "the image has $size bytes, at most 12 MB" test "$size" -le 12000000
    user=$(docker image inspect --format '{{.Config.User}}' weir)
    check "its user is a number above 0: $user" grep -qE '^[1-9][0-9]*(:[1-9][0-9]*)?$' <<<"$user"
    check "it says what it is" docker run --rm --network none weir --version
}

# in_it CONTAINER WORDS...: weir, once more in the same container.
in_it() {
    local id=$1
    shift
    docker exec "$id" /usr/bin/weir "$@" >"$scratch/in-it.log" 2>&1
}

# Five analyzers, with a link to each of the two shards.
serves_all() {
    in_it "$1" ctl --json status && python3 - "$scratch/in-it.log" <<'PYTHON'
import json, sys
analyzers = json.load(open(sys.argv[1]))["analyzers"]
sys.exit(0 if len(analyzers) == 5 and all(each["lanes"] == 2 for each in analyzers) else 1)
PYTHON
}

is_healthy() { [[ "$(state '{{.State.Health.Status}}' "$1")" == healthy ]]; }

step_compose() {
    title "compose, $1"
    local id name order
    docker-compose up --detach --build \
        --scale emitter-1=3 --scale analyzer-1=2 --scale distributor=2 >"$scratch/up.log" 2>&1 ||
        { tail -n 40 "$scratch/up.log" >&2; echo "containers-test: up fails" >&2; exit 1; }
    say "$(containers | wc -l) containers"
    for id in $(containers distributor); do
        check "a distributor is healthy" until_true 30 is_healthy "$id"
        for order in "status" "reload" "log-level info"; do
            # shellcheck disable=SC2086 # words of their own
            check "weir ctl $order in it" in_it "$id" ctl $order
        done
        check "every analyzer serves it" until_true 30 serves_all "$id"
    done
    for id in $(containers); do
        name=$(state '{{.Name}}' "$id")
        # It has ended: what it made is there.
        [[ "$name" != *_certs_* && "$name" != *-certs-* ]] || continue
        check "${name#/}: not root, read-only, no capability, no new privileges, a seccomp filter" confined "$id"
    done
}

# The container cannot do what it does not need.
confined() {
    local id=$1 field
    local -A wanted=([Uid]=10001 [NoNewPrivs]=1 [Seccomp]=2)
    for field in CapEff CapPrm CapBnd CapInh CapAmb; do wanted[$field]=0000000000000000; done
    [[ "$(state '{{.HostConfig.ReadonlyRootfs}}' "$id")" == true ]] || { say "its root can be written"; return 1; }
    for field in "${!wanted[@]}"; do
        [[ "$(of_process "$id" "$field")" == "${wanted[$field]}" ]] ||
            { say "$field: wanted ${wanted[$field]}, got '$(of_process "$id" "$field")'"; return 1; }
    done
}

# prometheus WORDS: what it answers to a query, as one number.
prometheus() {
    curl -sf --get --data-urlencode "query=$1" http://127.0.0.1:9090/api/v1/query |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["data"]["result"][0]["value"][1])' 2>/dev/null
}
sees() { [[ "$(prometheus "$1")" == "$2" ]]; }

step_observe() {
    title "observe"
    local number rules
    number=$(containers distributor | wc -l)
    docker-compose --profile observe up --detach --no-build prometheus >"$scratch/observe.log" 2>&1 ||
        { tail -n 40 "$scratch/observe.log" >&2; broken "prometheus starts"; return; }
    check "Prometheus scrapes $number distributor(s), found by their name" \
        until_true 60 sees 'sum(up{job="weir"})' "$number"
    check "they are ready" until_true 30 sees 'sum(weir_ready)' "$number"
    rules=$(curl -sf http://127.0.0.1:9090/api/v1/rules | grep -o '"type":"alerting"' | wc -l)
    check "it has the alerts: $rules" test "$rules" -eq "$(grep -c 'alert:' deploy/prometheus/alerts.yml)"
    same "none of them fires" 0 "$(prometheus 'count(ALERTS{alertstate="firing"}) or vector(0)')"
}

step_audit() {
    title "audit, $1"
    local id name before=$failed reports=$scratch/reports-$1
    sleep "$seconds"
    mapfile -t all < <(docker-compose ps --quiet | xargs docker inspect --format '{{.Id}} {{.Config.Image}}' |
        awk '$2 == "weir" {print $1}')
    docker-compose --profile observe stop >"$scratch/stop.log" 2>&1
    docker-compose logs --no-color --timestamps >"$scratch/logs-$1" 2>&1
    mkdir "$reports"
    for id in "${all[@]}"; do
        name=$(state '{{.Name}}' "$id")
        same "${name#/}: exit status" 0 "$(state '{{.State.ExitCode}}' "$id")"
        docker cp --quiet "$id:/var/lib/weir" "$reports/${name#/}" 2>/dev/null ||
            docker cp "$id:/var/lib/weir" "$reports/${name#/}"
    done
    docker run --rm --network none --volume "$reports:$reports:ro" weir audit "$reports"/*/report.json \
        >"$scratch/audit.log" 2>&1 || true
    sed 's/^/   /' "$scratch/audit.log"
    same "weir audit" balanced "$(tail -n 1 "$scratch/audit.log")"
    ((failed == before)) || tail -n 60 "$scratch/logs-$1"
    docker-compose --profile observe down --volumes >>"$scratch/stop.log" 2>&1
}

# shown PORT: serial number of the certificate there.
shown() {
    { echo | timeout 5 openssl s_client -connect "127.0.0.1:$1" 2>/dev/null || true; } |
        openssl x509 -noout -serial 2>/dev/null || true
}
shows_another() { local now; now=$(shown "$2"); [[ -n "$now" && "$now" != "$1" ]]; }

step_tls() {
    title "tls"
    local id port was told folder
    id=$(containers distributor | head -n 1)
    port=$(docker port "$id" 8080 | sed 's/.*://;q')
    folder=$(docker volume inspect --format '{{.Mountpoint}}' "$(docker volume ls --quiet | grep '_certs$')")
    check "emitters and analyzers came by TLS" grep -qE '^weir_tls_handshakes_total\{port="emitters"\} [1-9]' \
        <(curl -sf "http://127.0.0.1:$(docker port "$id" 3000 | sed 's/.*://;q')/metrics")
    told=$({ echo '<13>x'; sleep 1; } | timeout 5 openssl s_client -connect "127.0.0.1:$port" -CAfile "$folder/ca.pem" \
        -verify_return_error -verify_hostname localhost 2>&1 || true)
    check "who shows no certificate is kept out" grep -q 'certificate required' <<<"$told"
    docker logs "$id" >"$scratch/tls.log" 2>&1
    check "and named, with the reason" grep -q 'it has shown no certificate' "$scratch/tls.log"
    check "weir ctl health ready in it" in_it "$id" ctl health ready
    was=$(shown "$port")
    docker-compose run --rm --no-deps certs cert --dir /run/weir --name next,distributor,localhost >"$scratch/cert.log" 2>&1
    renew "$folder" next
    check "a renewed certificate is shown within 2 s, was $was" until_true 2 shows_another "$was" "$port"
    say "$(shown "$port")"
}
# renew FOLDER NAME: the pair of that name in place of the distributor's.
renew() {
    local end
    for end in key pem; do
        cp -p "$1/$2.$end" "$1/renewed" && mv "$1/renewed" "$1/distributor.$end"
    done
}

# As the kubelet mounts a secret: tls.crt -> ..data/tls.crt, ..data -> ..2026_1, and the second link is swapped.
step_swapped() {
    title "a secret as Kubernetes mounts it"
    local folder=$scratch/secret id was name
    mkdir -p "$folder/..1" "$folder/..2"
    for name in 1 2; do
        docker run --rm --network none --user 0 --volume "$scratch:$scratch" weir cert --dir "$scratch/made-$name" \
            --name "localhost,127.0.0.1" >/dev/null
        cp "$scratch/made-$name/localhost.pem" "$folder/..$name/tls.crt"
        cp "$scratch/made-$name/localhost.key" "$folder/..$name/tls.key"
    done
    # The group of the pod reads it.
    chown -R root:4711 "$folder"
    chmod 750 "$folder" "$folder"/..[12]
    chmod 440 "$folder"/..[12]/*
    ln -s ..1 "$folder/..data"
    for name in tls.crt tls.key; do ln -s "..data/$name" "$folder/$name"; done
    id=$(docker run --detach --read-only --tmpfs /run/weir:mode=1777 --cap-drop ALL --security-opt no-new-privileges \
        --security-opt seccomp=deploy/seccomp/weir.json --user 4711:4711 --network host \
        --volume "$folder:/etc/weir-tls:ro" weir distributor --shards 1 --emitters 127.0.0.1:18080 \
        --analyzers 127.0.0.1:18081 --http 127.0.0.1:13000 --emitters-tls required --http-tls required \
        --tls-cert /etc/weir-tls/tls.crt --tls-key /etc/weir-tls/tls.key)
    check "it answers a probe over HTTPS that does not look at the certificate" until_true 10 \
        curl -sfk -o /dev/null https://127.0.0.1:13000/health/live
    check "and one in the container" in_it "$id" ctl health live
    was=$(shown 18080)
    ln -s ..2 "$folder/..next"
    mv -T "$folder/..next" "$folder/..data"
    check "the swapped secret is shown within 2 s" until_true 2 shows_another "$was" 18080
    docker rm --force "$id" >/dev/null
}

# refusal NAME ERRNO WORDS: io_uring taken out of the profile, as the runtimes have it.
refusal() {
    local profile=$scratch/$1.json status=0 out
    python3 - deploy/seccomp/weir.json "$profile" "$2" <<'PYTHON'
import json, sys
data = json.load(open(sys.argv[1]))
for call in data["syscalls"]:
    if "io_uring_setup" in call["names"]:
        call.update(action="SCMP_ACT_ERRNO", errnoRet=int(sys.argv[3]))
json.dump(data, open(sys.argv[2], "w"))
PYTHON
    out=$(docker run --rm --network none --read-only --cap-drop ALL --security-opt no-new-privileges \
        --security-opt "seccomp=$profile" --tmpfs /run/weir:mode=1777 weir 2>&1) || status=$?
    say "$(tail -n 1 <<<"$out")"
    same "$1: exit status" 1 "$status"
    check "$1: the message names the profile" grep -q "$3" <<<"$out"
}

step_refusal() {
    title "refusal"
    refusal docker-eperm 1 'refused (EPERM) by a seccomp profile'
    refusal podman-enosys 38 'refused (ENOSYS) by a seccomp profile'
}

title "engine"
trap stop_engine EXIT
start_engine
say "Docker $(docker version --format '{{.Server.Version}}'), $(docker-compose version --short)"
import_base
export WEIR_PROFILE=$profile WEIR_COMMIT
WEIR_COMMIT=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
step_build
step_compose weir
step_observe
step_audit weir
export COMPOSE_FILE=compose.yaml:deploy/compose/tls.yaml
step_compose tls
step_tls
step_audit tls
unset COMPOSE_FILE
step_swapped
export WEIR_SECCOMP=deploy/seccomp/weir-strict.json
step_compose strict
step_audit strict
step_refusal

title "result"
say "$passed held, $failed did not"
((failed == 0))
