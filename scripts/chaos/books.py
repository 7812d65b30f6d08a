"""The verdict from records: what was sent, what arrived, how often.

An analyzer writes a record of 16 bytes for every message before it ACKs it (u64 hash of the stream,
u64 number, big-endian), so the records of a killed analyzer hold all that it ever ACKed.
"""

import json
import struct
from collections import Counter

RECORD_BYTES = 16


def stream_hash(stream):
    """FNV-1a, as the record files have it."""
    value = 0xCBF29CE484222325
    for byte in stream.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def read_records(path):
    """(stream hash, number) of each whole record; the last one may have been cut."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return []
    whole = len(data) // RECORD_BYTES * RECORD_BYTES
    return struct.iter_unpack(">QQ", data[:whole])


def copies_of(record_paths):
    """How often each message was recorded."""
    copies = Counter()
    for path in record_paths:
        copies.update(read_records(path))
    return copies


def ranges(numbers):
    """Sorted numbers as text: 5, 9-12."""
    parts = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in parts)


class Books:
    """Sent against delivered. `sent` maps a stream to the count of messages it may have sent, all
    numbered from 1."""

    def __init__(self, sent, record_paths):
        self.copies = copies_of(record_paths)
        self.sent = sum(sent.values())
        self.delivered = len(self.copies)
        self.distinct_twice = sum(times > 1 for times in self.copies.values())
        self.missing = {}
        self.foreign = 0
        known = {stream_hash(stream): stream for stream in sent}
        have = {stream: set() for stream in sent}
        for hash_, number in self.copies:
            stream = known.get(hash_)
            if stream is None or not 1 <= number <= sent[stream]:
                self.foreign += 1
            else:
                have[stream].add(number)
        for stream, count in sent.items():
            if len(have[stream]) != count:
                gone = [n for n in range(1, count + 1) if n not in have[stream]]
                self.missing[stream] = gone

    @property
    def missing_count(self):
        """Messages that no analyzer has."""
        return sum(map(len, self.missing.values()))

    def posted_twice(self, run_reports):
        """Messages that came more than once and that their emitter's run report names as sent again."""
        total = 0
        for path in run_reports:
            with open(path) as file:
                streams = json.load(file)["streams"]
            for stream in streams:
                hash_ = stream_hash(stream["stream"])
                spans = stream.get("maybe_twice", [])
                total += sum(self.copies[hash_, n] > 1 for first, last in spans for n in range(first, last + 1))
        return total

    def describe_missing(self, most=3):
        """The first streams with missing messages, as text."""
        some = list(self.missing.items())[:most]
        return "; ".join(f"{stream}: {ranges(gone)[:120]}" for stream, gone in some)


def split(count, connections, batch):
    """Messages of each connection of a paced `weir emitter --count`: group g of `batch` messages
    goes to connection g mod n, the last group may be short."""
    groups, rest = divmod(count, batch)
    rounds, extra = divmod(groups, connections)
    per = [batch * (rounds + (index < extra)) for index in range(connections)]
    per[extra] += rest
    return per
