#!/usr/bin/env python3
"""How long until all emitters are connected that come at the same moment?

Starts a distributor with one shard on a core, opens so many connections at once, and prints when half of them and the
last one were there, how many had to try again, and what the kernel counted. With --stopped the distributor accepts
nothing for that long, as when it starts or a shard waits. Run it where net.core.somaxconn may be changed:

    ip netns add storm && ip netns exec storm ip link set lo up
    ip netns exec storm sysctl -w net.core.somaxconn=128 net.ipv4.tcp_max_syn_backlog=128
    ip netns exec storm tuning/measure/storm.py target/release/weir

Exit status: 0 measured, 1 some never came, 2 usage.
"""

import argparse
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time

EMITTERS = ("127.0.0.1", 18080)
# A SYN that is not answered is sent again after one second.
RETRY_S = 0.9


def start(weir, core):
    """The distributor, ready."""
    flags = f"--emitters {EMITTERS[0]}:{EMITTERS[1]} --analyzers 127.0.0.1:18081 --http off --shards 1 --arena 16MiB"
    command = ["taskset", "-c", str(core), weir, "distributor", *flags.split()]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    for line in child.stderr:
        if b" ready " in line:
            return child
    sys.exit(f"{weir} did not start: status {child.wait()}")


def overflows():
    """Connections that the kernel has dropped because a listen queue was full."""
    with open("/proc/net/netstat") as file:
        names, values = [line.split() for line in file if line.startswith("TcpExt")]
    return int(dict(zip(names, values))["ListenOverflows"])


def storm(child, count, stopped):
    """Seconds until each was connected, from when the distributor could accept."""
    if stopped:
        child.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    poll, sockets = select.epoll(), {}
    for _ in range(count):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(EMITTERS)
        sockets[one.fileno()] = one
        poll.register(one.fileno(), select.EPOLLOUT)
    if stopped:
        time.sleep(max(0.0, began + stopped - time.monotonic()))
        child.send_signal(signal.SIGCONT)
        began = time.monotonic()
    times = []
    while len(times) < count:
        ready = poll.poll(30)
        if not ready:
            break
        for number, _ in ready:
            times.append(time.monotonic() - began)
            poll.unregister(number)
    for one in sockets.values():
        one.close()
    return sorted(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weir", help="the program")
    parser.add_argument("--connections", type=int, default=9000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stopped", type=float, default=0.0, metavar="SECONDS", help="accepts nothing for so long")
    parser.add_argument("--core", type=int, default=0, help="of the distributor; the connections come from another")
    args = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < args.connections + 100:
        parser.error(f"--connections {args.connections}: at most {hard} descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, (os.sched_getaffinity(0) - {args.core}) or {args.core})
    with open("/proc/sys/net/core/somaxconn") as file:
        somaxconn = file.read().strip()
    child, missing = start(args.weir, args.core), 0
    try:
        for _ in range(args.rounds):
            before = overflows()
            times = storm(child, args.connections, args.stopped)
            missing += args.connections - len(times)
            late = sum(seconds > RETRY_S for seconds in times)
            print(f"somaxconn {somaxconn}: half after {times[len(times) // 2]:.3f} s, last after {times[-1]:.3f} s, "
                  f"tried again {late}, never {args.connections - len(times)}, overflows {overflows() - before}", flush=True)
            time.sleep(1)
    finally:
        child.send_signal(signal.SIGCONT)
        child.terminate()
        child.stderr.close()
        child.wait()
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
