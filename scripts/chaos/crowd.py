"""Opens connections and holds them, as many as it is let: `crowd.py HOST PORT COUNT`.

Prints `held N` when all were tried; ends with its standard input. Refused or closed ones do not count.
"""

import socket
import sys


def main():
    host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    held = []
    for _ in range(count):
        try:
            held.append(socket.create_connection((host, port), timeout=2))
        except OSError:
            pass
    print(f"held {len(held)}", flush=True)
    sys.stdin.read()


main()
