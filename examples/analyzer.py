#!/usr/bin/env python3
"""An analyzer with native links, one to each shard (docs/PROTOCOL.md, section 5). Standard library only.

    python3 examples/analyzer.py 127.0.0.1:8081 my-id 0.5
"""

import secrets
import socket
import struct
import sys
from concurrent.futures import ThreadPoolExecutor

MAGIC = b"\xd7EIR\x01"  # and version 1
BATCH, DRAIN, GOODBYE = 0x10, 0x11, 0x12
FRAME_BYTES = range(5, (16 << 20) + 1)  # lengths that are believed


def process(severity: int, payload: bytes) -> None:
    """Your work goes here. Weir keeps the message until the ACK behind it."""
    print(f"{severity} {payload.decode('utf-8', 'replace')}\n", end="")


def connect(address: str, identity: bytes, weight: float, instance: int, shard: int):
    """HELLO and WELCOME: the link, its input, how many shards there are, and which one this is."""
    host, port = address.rsplit(":", 1)
    link = socket.create_connection((host, int(port)))
    head = struct.pack(">BHdQIHH", 2, shard, weight, 0, 0, 0, len(identity))  # flag 2: an instance follows
    link.sendall(MAGIC + head + identity + struct.pack(">Q", instance))
    source = link.makefile("rb")
    magic, status, shards, index, reason = struct.unpack(">5sBHHH", take(source, 12))
    take(source, 20)
    if magic != MAGIC or status != 0:
        sys.exit(f"refused: {take(source, reason).decode('utf-8', 'replace')}")
    return link, source, shards, index


def take(source, count: int) -> bytes:
    data = source.read(count)
    if len(data) < count:
        raise ConnectionError("the distributor has closed the link")
    return data


def serve(link: socket.socket, source) -> None:
    """Processes batches until the distributor has finished with this link."""
    while (word := take(source, 1)[0]) != GOODBYE:
        if word == DRAIN:
            continue  # ACK what is processed: it is
        if word != BATCH:
            raise ValueError(f"unknown word {word:#x}")
        flags, _, count, _, _, sequence, _ = struct.unpack(">BHIIIQQ", take(source, 31))
        for _ in range(count):
            if flags & 1:  # re-routed: it may be a duplicate, known by its first number
                take(source, 8)
            length, severity = struct.unpack(">IB", take(source, 5))
            if length not in FRAME_BYTES:
                raise ValueError(f"a frame of {length} bytes")
            process(severity, take(source, length - 5))
        # The ACK: everything up to the last message of this batch is processed.
        link.sendall(struct.pack(">BQ", 1, sequence + count - 1))


def main(address: str, name: str, weight: str) -> None:
    instance = secrets.randbits(64)  # one per run: these links are one analyzer
    known = (address, name.encode(), float(weight), instance)
    link, source, shards, index = connect(*known, 0xFFFF)  # any shard
    links = [(link, source)]
    links += [connect(*known, shard)[:2] for shard in range(shards) if shard != index]
    with ThreadPoolExecutor(len(links)) as pool:
        list(pool.map(serve, *zip(*links)))  # raises what went wrong on any of them


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: analyzer.py ADDRESS ID WEIGHT")
    main(*sys.argv[1:])
