"""Messages of text, decoded from whole streams: written from docs/SYSLOG.md, not from the source.

One case a line on stdin: framing, `join` or `-`, longest text, the stream in hex. One line on stdout for each: its
messages as `severity:hex`, a message that was skipped as `skipped`.
"""

import re
import sys
import zlib

COUNT_MAX = 16 * 1024 * 1024
MARK = b" [cut]"
PAD = rb" {0,16}(?:\xef\xbb\xbf)?"
# 1 to 16777216
SIZE = (
    rb"(?:16777(?:[01][0-9]{2}|2(?:0[0-9]|1[0-6]))|1677[0-6][0-9]{3}|167[0-6][0-9]{4}|16[0-6][0-9]{5}|1[0-5][0-9]{6}"
    rb"|[1-9][0-9]{0,6})"
)
ZLIB = rb"(?=z\x78[\x01\x5e\x9c\xda])"
COUNT = re.compile(PAD + rb"(" + SIZE + rb") (?=<[0-9])")
PACKED = re.compile(PAD + rb"(?![123] )(" + SIZE + rb") " + ZLIB)
BEGIN = rb"<[0-9]|" + PAD + rb"(?:" + SIZE + rb" <[0-9]|(?![123] )" + SIZE + rb" " + ZLIB + rb")"
PINNED = re.compile(rb"(?:\xef\xbb\xbf)?([1-9][0-9]{0,9}) ")
# A count that the stream ends in.
PARTIAL = re.compile(rb"(?:\xef\xbb?|(?:\xef\xbb\xbf)?(?:[1-9][0-9]{0,9})?)\Z")
ENDS = {"auto": rb"\n\0", "lf": rb"\n", "nul": rb"\0"}
PADDING = {"auto": rb"[\n\r\0]*", "lf": rb"[\n\r]*", "nul": rb"\0*", "counted": rb"[\n\r\0 ]*"}
PRI = re.compile(rb"<([0-9]{1,3})>")
SEVERITY = [0, 0, 0, 1, 2, 3, 3, 4]


def line_pattern(framing, join):
    ends = ENDS[framing]
    one = rb"[^" + ends + rb"]"
    if join and framing != "nul":
        one += rb"|\n(?!" + BEGIN + rb")(?=.)"
    end = rb"[" + ends + rb"]|\Z"
    # An LF at the very end goes with what it ends.
    return re.compile(rb"((?:" + one + rb")*)(" + end + rb")", re.S)


def shown(text):
    """What is routed of a text."""
    bare = re.match(PAD, text).end()
    pri = PRI.match(text) or PRI.match(text[bare:])
    if pri and int(pri[1]) <= 191:
        return [f"{SEVERITY[int(pri[1]) & 7]}:{text[0 if PRI.match(text) else bare:].hex()}"]
    if bare == len(text):
        return []
    text = text.removeprefix(b"\xef\xbb\xbf")
    return [f"3:{text.hex()}"] if text else []


def cut(text, limit):
    kept = text[: limit - len(MARK)]
    while kept != text and kept and text[len(kept)] & 0xC0 == 0x80:
        kept = kept[:-1]
    return shown(kept + MARK)


def unpacked(packed):
    stream = zlib.decompressobj()
    try:
        body = stream.decompress(packed)
    except zlib.error:
        return None
    return body if stream.eof and not stream.unused_data else None


def block(body, limit):
    """A message whose length is known."""
    if len(body) > limit:
        return cut(body[:limit], limit) + ["skipped"]
    return shown(body.rstrip(b"\n\r\0"))


def messages(stream, framing, join, limit):
    line = None if framing == "counted" else line_pattern(framing, join)
    padding = re.compile(PADDING[framing])
    out, at = [], 0
    while True:
        at = padding.match(stream, at).end()
        if at == len(stream):
            return out
        packed = counted = None
        if framing in ("auto", "counted"):
            packed = PACKED.match(stream, at)
            counted = (COUNT if framing == "auto" else PINNED).match(stream, at)
        if counted and int(counted[1]) > COUNT_MAX:
            counted = None
        if packed:
            size, at = int(packed[1]), packed.end()
            if size > limit:
                out, at = out + ["skipped"], min(at + size, len(stream))
                continue
            if at + size > len(stream):
                return out
            body = unpacked(stream[at + 1 : at + size])
            if body is None:
                return out + ["refused"]
            out += block(body, limit)
            at += size
        elif counted:
            size, at = int(counted[1]), counted.end()
            body = stream[at : at + size]
            if len(body) < min(size, limit):
                return out
            if size > limit:
                out += cut(body[:limit], limit)
                if len(body) > limit:
                    out.append("skipped")
            else:
                out += block(body, limit)
            at = min(at + size, len(stream))
        elif framing == "counted":
            # One byte may still begin a compressed stream.
            is_open = PARTIAL.match(stream, at) or stream in (b"x", b"(")
            return out if is_open else out + ["refused"]
        else:
            found = line.match(stream, at)
            text, at = found[1], found.end()
            if len(text) > limit + 1 or len(text) == limit + 1 and text[limit] != 0x0D:
                looked_at = limit + 1 + (text[limit] == 0x0D)
                out += cut(text[:limit], limit)
                if found.end() > found.start() + looked_at:
                    out.append("skipped")
            else:
                out += shown(text.rstrip(b"\n\r\0"))


for case in sys.stdin:
    framing, join, limit, stream = case.rstrip("\n").split(" ")
    print(" ".join(messages(bytes.fromhex(stream), framing, join == "join", int(limit))))
