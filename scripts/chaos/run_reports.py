"""Run reports of the python emitters: what `weir emitter --report` would have written (`docs/LEDGER.md`)."""

import datetime
import json
import time


def moment():
    """Now: UTC as RFC 3339, and CLOCK_MONOTONIC in nanoseconds."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return now.strftime("%Y-%m-%dT%H:%M:%S.%f000Z"), time.monotonic_ns()


def payload(stream, number, size):
    """A numbered payload of `size` bytes, as `weir emitter` numbers them."""
    return f"{stream} {number} {time.time_ns()} ".encode().ljust(size, b".")


def write(path, name, connections, each, message_bytes, started):
    """Every connection has given messages 1 to `each`. `started` is the moment of the start."""
    ended = moment()
    messages = connections * each
    stream = lambda index: {"stream": f"{name}/{index}", "given": [[1, each]], "maybe_lost": [], "resent": []}
    report = {
        "certificate": {"version": 2, "kind": "emitter"},
        "run": {"weir": "chaos", "started": started[0], "ended": ended[0],
                "started_mono_ns": started[1], "ended_mono_ns": ended[1]},
        "id": name, "numbered": True,
        "sent": {"messages": messages, "bytes": messages * message_bytes, "connected": connections, "broken": 0,
                 "farewells": 0, "reconnects": 0, "unsent": 0, "unconfirmed": connections},
        "streams": [stream(index) for index in range(connections)],
    }
    with open(path, "w") as file:
        json.dump(report, file)
