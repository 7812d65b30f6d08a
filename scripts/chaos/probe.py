"""An analyzer with a tiny weight that times what it gets: `probe.py HOST PORT WEIGHT RECORDS`.

It speaks the compact dialect, writes a record for each message before the ACK as `weir analyzer
--record` does, and prints once a second the delays in microseconds from the time that a message was
due to now: `<count> <p50> <p99> <max>`. It ends with its standard input, and connects again if cut off.
"""

import select
import socket
import struct
import sys
import time

import books


class Over(Exception):
    """Standard input has ended."""


def take(buffer, hashes, delays, records):
    """All whole frames at the start of `buffer`: how many, and how many bytes."""
    at = count = 0
    now = time.time_ns()
    while len(buffer) - at >= 4:
        length = int.from_bytes(buffer[at:at + 4], "big")
        if len(buffer) - at < length:
            break
        stream, number, due, _ = bytes(buffer[at + 5:at + length]).split(b" ", 3)
        if stream not in hashes:
            hashes[stream] = books.stream_hash(stream.decode())
        records += struct.pack(">QQ", hashes[stream], int(number))
        delays.append(max(now - int(due), 0) // 1000)
        at += length
        count += 1
    return count, at


def tell(delays):
    """The line of a second."""
    if delays:
        delays.sort()
        p50, p99 = delays[len(delays) // 2], delays[int(0.99 * len(delays))]
        print(len(delays), p50, p99, delays[-1], flush=True)
        delays.clear()


def serve(connection, weight, file, hashes, delays):
    """Until the connection ends."""
    connection.sendall(struct.pack(">f", weight))
    buffer, taken, next_line = bytearray(), 0, time.monotonic() + 1
    while True:
        readable, _, _ = select.select([connection, sys.stdin], [], [], 0.2)
        if time.monotonic() >= next_line:
            tell(delays)
            next_line = time.monotonic() + 1
        if sys.stdin in readable and not sys.stdin.buffer.read1(1):
            raise Over
        if connection not in readable:
            continue
        got = connection.recv(65536)
        if not got:
            return
        buffer += got
        records = bytearray()
        count, used = take(buffer, hashes, delays, records)
        if count:
            del buffer[:used]
            taken += count
            file.write(records)
            connection.sendall((0x80000000 | taken & 0x7FFFFFFF).to_bytes(4, "big"))


def main():
    host, port, weight = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    hashes, delays = {}, []
    with open(sys.argv[4], "ab", buffering=0) as file:
        while True:
            try:
                with socket.create_connection((host, port), timeout=5) as connection:
                    serve(connection, weight, file, hashes, delays)
            except Over:
                return
            except OSError:
                if select.select([sys.stdin], [], [], 0.1)[0] and not sys.stdin.buffer.read1(1):
                    return


main()
