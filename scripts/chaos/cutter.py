"""An emitter that stops in the middle of a frame and waits to be killed.

    cutter.py HOST PORT ID CONNECTIONS FRAMES SIZE CERTIFICATE

On each connection it writes FRAMES whole frames and a part of the next one, numbered as `weir emitter`
numbers them. When the kernel has taken all of it, it writes an emitter's certificate, which a killed
process could not, prints `cut` and keeps the connections open. From then on the whole frames must be
delivered and the cut ones must not, however this process dies.
"""

import datetime
import json
import random
import socket
import sys
import time


def frame(stream, number, size):
    """One frame with a numbered payload of `size` bytes."""
    payload = f"{stream} {number} {time.time_ns()} ".encode().ljust(size, b".")
    return (5 + size).to_bytes(4, "big") + b"\x03" + payload


def moment():
    """Now: UTC as RFC 3339, and CLOCK_MONOTONIC in nanoseconds."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return now.strftime("%Y-%m-%dT%H:%M:%S.%f000Z"), time.monotonic_ns()


def certify(path, name, connections, frames, size, started):
    """What the kernel has taken whole, as `docs/LEDGER.md` has it."""
    ended = moment()
    messages = connections * frames
    stream = lambda index: {"stream": f"{name}/{index}", "given": [[1, frames]], "maybe_lost": [], "resent": []}
    certificate = {
        "certificate": {"version": 1, "kind": "emitter"},
        "run": {"weir": "cutter", "started": started[0], "ended": ended[0],
                "started_mono_ns": started[1], "ended_mono_ns": ended[1]},
        "id": name, "numbered": True,
        "sent": {"messages": messages, "bytes": messages * (5 + size), "connected": connections, "broken": 0,
                 "farewells": 0, "reconnects": 0, "unsent": 0, "unconfirmed": connections},
        "streams": [stream(index) for index in range(connections)],
    }
    with open(path, "w") as file:
        json.dump(certificate, file)


def main():
    host, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    connections, frames, size = map(int, sys.argv[4:7])
    started = moment()
    sockets = [socket.create_connection((host, port), timeout=30) for _ in range(connections)]
    for index, connection in enumerate(sockets):
        stream = f"{name}/{index}"
        whole = b"".join(frame(stream, number, size) for number in range(1, frames + 1))
        cut = frame(stream, frames + 1, size)
        connection.sendall(whole + cut[: random.randrange(1, len(cut))])
    certify(sys.argv[7], name, connections, frames, size, started)
    print("cut", flush=True)
    sys.stdin.read()


main()
