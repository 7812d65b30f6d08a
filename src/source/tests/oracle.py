#!/usr/bin/env python3
"""A second decoder of Lumberjack and RELP, written from their specifications, with Python's zlib, json and re.

Prints random streams, whole and damaged, and what it makes of them; src/source/tests/oracle.rs compares.

    oracle.py SEED COUNT

    each case: u8 protocol (0 Lumberjack, 1 RELP), u32 length, stream, u32 messages, of each u8 severity (255: any),
    u32 length, bytes; u32 length, what the sender is told; u8 end (0 open, 1 refused, 2 session over)
"""
import io
import json
import random
import re
import struct
import sys
import zlib

MAX_FRAME = 4096
WINDOW_MAX = 10_000
ANY = 255
WORDS = {
    0: "fatal emerg emergency alert crit critical panic", 1: "error err severe failure", 2: "warn warning",
    3: "info information informational notice", 4: "debug fine", 5: "trace verbose finer finest silly",
}
SEVERITY = {word: level for level, words in WORDS.items() for word in words.split()}
KEYS = ["level", "severity", "log.level", "loglevel", "severity_text"]


class Refused(Exception):
    pass


class Short(Exception):
    pass


def exactly(stream, count):
    got = stream.read(count)
    if len(got) < count:
        raise Short
    return got


# Lumberjack

def json_severity(raw):
    if b"\\" in raw:
        return ANY
    try:
        record = json.loads(raw.decode())
    except ValueError:
        return ANY
    if not isinstance(record, dict):
        return 3
    if "log.level" in record and "log" in record:
        return ANY
    if isinstance(record.get("log"), dict):
        record["log.level"] = record["log"].get("level")
    for key in KEYS:
        value = record.get(key)
        if isinstance(value, str) and value.lower() in SEVERITY:
            return SEVERITY[value.lower()]
        if isinstance(value, float):
            return ANY
        if type(value) is int and value < 10:
            return ANY
        if type(value) is int:
            return max(0, 6 - min(value // 10, 6))
    return 3


def lumberjack(raw):
    """Messages, answers, end."""
    messages, told = [], b""

    def event(stream):
        seq, length = struct.unpack(">II", exactly(stream, 8))
        if length + 5 > MAX_FRAME:
            raise Refused
        return seq, re.sub(rb"\r?\n\Z", b"", exactly(stream, length))

    def frames(stream):
        nonlocal told
        left = 0
        while True:
            version = exactly(stream, 1)
            if version != b"2":
                raise Refused
            kind, batch = exactly(stream, 1), []
            if kind == b"W" and left == 0:
                left, = struct.unpack(">I", exactly(stream, 4))
                if left > WINDOW_MAX:
                    raise Refused
                if left == 0:
                    told += b"2A" + struct.pack(">I", 0)
            elif kind == b"J" and left:
                batch = [event(stream)]
            elif kind == b"C":
                size, = struct.unpack(">I", exactly(stream, 4))
                if size > 16 << 20:
                    raise Refused
                batch = packed(exactly(stream, size), left)
            else:
                raise Refused
            for seq, body in batch:
                messages.append((json_severity(body), body))
                left -= 1
            if batch and left == 0:
                told += b"2A" + struct.pack(">I", batch[-1][0])

    def packed(blob, left):
        # Some clients send the deflate part alone.
        is_zlib = len(blob) > 1 and blob[0] & 15 == 8 and (blob[0] << 8 | blob[1]) % 31 == 0
        unpacker = zlib.decompressobj(15 if is_zlib else -15)
        try:
            plain = unpacker.decompress(blob) + unpacker.flush()
        except zlib.error:
            raise Refused from None
        if not unpacker.eof or unpacker.unused_data or len(plain) > 16 << 20:
            raise Refused
        inside, batch = io.BytesIO(plain), []
        try:
            while inside.tell() < len(plain):
                if exactly(inside, 2) != b"2J" or len(batch) == left:
                    raise Refused
                batch.append(event(inside))
        except Short:
            raise Refused from None
        return batch

    try:
        frames(io.BytesIO(raw))
    except Short:
        return messages, told, 0
    except Refused:
        return messages, told, 1


def random_record(rng):
    record = {}
    for _ in range(rng.randrange(6)):
        key = rng.choice(KEYS + ["message", "host", "log", "@timestamp", "event"])
        word = rng.choice([rng.choice(list(SEVERITY)), "Ünknown", rng.choice(list(SEVERITY)).upper(), 'a "quoted" \\ one'])
        record[key] = rng.choice([
            word, rng.randrange(80), None, True, 1.5, [word, {"level": word}], {"level": word, "x": [1, {}]}, {}, "x" * rng.randrange(300),
        ])
    return json.dumps(record, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, None, 2])).encode()


def lumberjack_stream(rng):
    out, seq = b"", rng.choice([0, 1, 2**32 - 40])
    for _ in range(rng.randrange(4)):
        events = []
        for _ in range(rng.randrange(9)):
            seq = (seq + 1) % 2**32
            body = random_record(rng) + rng.choice([b"", b"", b"\n", b"\r\n", b"\n\n"])
            events.append(b"2J" + struct.pack(">II", seq, len(body)) + body)
        out += b"2W" + struct.pack(">I", len(events))
        if not events and rng.random() < 0.5:
            # What pylogbeat sends for no events.
            out += b"2C" + struct.pack(">I", 8) + zlib.compress(b"")
        while events:
            take = rng.randrange(1, len(events) + 1)
            part, events = b"".join(events[:take]), events[take:]
            if rng.random() < 0.5:
                packer = zlib.compressobj(rng.randrange(10), wbits=rng.randrange(9, 16), strategy=rng.randrange(5))
                blob = packer.compress(part) + packer.flush()
                part = b"2C" + struct.pack(">I", len(blob)) + blob
            out += part
        if rng.random() < 0.5:
            seq = 0
    return out


# RELP

HEADER = re.compile(rb"([0-9]{1,9}) ([A-Za-z]{1,32}) ([0-9]{1,9})([ \n])")
PARTS = [rb"[0-9]{1,9}", rb" ", rb"[A-Za-z]{1,32}", rb" ", rb"[0-9]{1,9}", rb"[ \n]"]
OPEN = b"200 OK\nrelp_version=0\nrelp_software=weir\ncommands=syslog"
CLOSED = b"0 serverclose 0\n"


def syslog_severity(text):
    if text.startswith(b"\xef\xbb\xbf"):
        text = text[3:]
    pri = re.match(rb"<([0-9]{1,3})>", text)
    if not pri or int(pri[1]) > 191:
        return 3
    return [0, 0, 0, 1, 2, 3, 3, 4][int(pri[1]) % 8]


def rsp(number, data):
    head = b"%d rsp %d" % (number, len(data))
    return head + (b" " + data if data else b"") + b"\n"


def relp(raw):
    messages, told, at, is_open = [], b"", 0, False
    while True:
        header = HEADER.match(raw, at)
        if not header:
            return messages, told, int(not is_prefix(raw[at:]))
        number, command, length = int(header[1]), header[2], int(header[3])
        if number == 0 or header[4] == b"\n" and length:
            return messages, told, 1
        if not is_open and command != b"open":
            return messages, told, 1
        if is_open and command == b"syslog":
            if length + 5 > MAX_FRAME:
                return messages, told, 1
        elif length > 4096:
            return messages, told, 1
        data_at = header.end() - (header[4] == b"\n")
        data, trailer = raw[data_at:data_at + length], raw[data_at + length:data_at + length + 1]
        if not trailer:
            return messages, told, 0
        if trailer != b"\n":
            return messages, told, 1
        at = data_at + length + 1
        if is_open and command == b"syslog":
            if length:
                text = data.rstrip(b"\r\n\0")
                messages.append((syslog_severity(text), text))
            told += rsp(number, b"200 OK")
        elif command == b"open" and not is_open:
            is_open, told = True, told + rsp(number, OPEN)
        elif command == b"open":
            return messages, told + rsp(number, b"500 this session is open already") + CLOSED, 2
        elif command == b"close":
            return messages, told + rsp(number, b"") + CLOSED, 2
        else:
            told += rsp(number, b"500 unknown command, allowed are open, syslog and close: " + command)


def is_prefix(rest):
    return any(re.fullmatch(b"".join(PARTS[:count]) + (b"(?:%s)?" % PARTS[count]), rest) for count in range(len(PARTS)))


def relp_stream(rng):
    out, number = b"1 open %d %s\n" % (len(OPEN), OPEN), 1
    for _ in range(rng.randrange(12)):
        number = rng.choice([number + 1, 999_999_999, 1])
        data = rng.choice([b"", b"<%d>" % rng.randrange(250), b"\xef\xbb\xbf<11>", b"<1"])
        data += rng.randbytes(rng.randrange(60)) + rng.choice([b"", b"", b"\n", b"\r\n\0"])
        command = rng.choice([b"syslog"] * 8 + [b"rsp", b"starttls"])
        out += b"%d %s %d" % (number, command, len(data)) + (b" " + data if data or rng.random() < 0.5 else b"") + b"\n"
    if rng.random() < 0.3:
        out += b"%d %s 0\n" % (number + 1, rng.choice([b"close", b"open"]))
    return out


def damaged(rng, stream):
    stream = bytearray(stream)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(stream) + 1)
        what = rng.randrange(4)
        if what == 0 and at < len(stream):
            stream[at] = rng.choice([rng.randrange(256), stream[at] ^ 1, stream[at] ^ 128, 0, 50])
        elif what == 1:
            del stream[at:]
        elif what == 2:
            stream[at:at] = rng.randbytes(rng.randrange(1, 5))
        elif what == 3:
            del stream[at:at + rng.randrange(1, 5)]
    return bytes(stream)


def main():
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    out = sys.stdout.buffer
    for number in range(count):
        rng = random.Random(seed * 1_000_003 + number)
        protocol = number % 2
        stream = [lumberjack_stream, relp_stream][protocol](rng)
        if rng.random() < 0.6:
            stream = damaged(rng, stream)
        messages, told, end = [lumberjack, relp][protocol](stream)
        out.write(struct.pack(">BI", protocol, len(stream)) + stream + struct.pack(">I", len(messages)))
        for severity, body in messages:
            out.write(struct.pack(">BI", severity, len(body)) + body)
        out.write(struct.pack(">I", len(told)) + told + bytes([end]))


main()
