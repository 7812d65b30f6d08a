"""Opens connections and holds them, as many as it is let: `crowd.py HOST PORT COUNT [HEX]`.

Each says these bytes, if there are any, and no more. Prints `held N` when all were tried, and `full` when one of them was
closed by the other side; ends with its standard input. Refused or closed ones do not count.
"""

import select
import socket
import sys


def main():
    host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    word = bytes.fromhex("".join(sys.argv[4:]))
    held = []
    for _ in range(count):
        try:
            one = socket.create_connection((host, port), timeout=2)
            held.append(one)
            one.sendall(word)
        except OSError:
            pass
    print(f"held {len(held)}", flush=True)
    # Nobody is answered here: who hears of something hears of an end.
    ends = select.poll()
    for one in held:
        ends.register(one, select.POLLIN)
    ends.poll()
    print("full", flush=True)
    sys.stdin.read()


main()
