"""An emitter that stops in the middle of a frame and waits to be killed.

    cutter.py HOST PORT ID CONNECTIONS FRAMES SIZE REPORT

On each connection it writes FRAMES whole frames and a part of the next one, numbered as `weir emitter`
numbers them. When the kernel has taken all of it, it writes an emitter's run report, which a killed
process could not, prints `cut` and keeps the connections open. From then on the whole frames must be
delivered and the cut ones must not, however this process dies.
"""

import random
import socket
import sys

import run_reports


def frame(stream, number, size):
    """One frame with a numbered payload of `size` bytes."""
    return (5 + size).to_bytes(4, "big") + b"\x03" + run_reports.payload(stream, number, size)


def main():
    host, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    connections, frames, size = map(int, sys.argv[4:7])
    started = run_reports.moment()
    sockets = [socket.create_connection((host, port), timeout=30) for _ in range(connections)]
    for index, connection in enumerate(sockets):
        stream = f"{name}/{index}"
        whole = b"".join(frame(stream, number, size) for number in range(1, frames + 1))
        cut = frame(stream, frames + 1, size)
        connection.sendall(whole + cut[: random.randrange(1, len(cut))])
    run_reports.write(sys.argv[7], name, connections, frames, 5 + size, started)
    print("cut", flush=True)
    sys.stdin.read()


main()
