"""pylogbeat, as a shipper uses it: one window after the other, each again until it is ACKed.

    lumberjack.py PORT RECORD FIRST END BATCH

Numbers FIRST to END as JSON. RECORD gets the number of each message whose window was ACKed, before the next is sent: it is
what the sender knows, and outlives it.
"""

import sys
import time

from pylogbeat import PyLogBeatClient

port, record, first, end, batch = sys.argv[1], open(sys.argv[2], "a", buffering=1), *map(int, sys.argv[3:6])
client = None
while first < end:
    numbers = range(first, min(first + batch, end))
    events = [{"message": f"message {number:06}", "level": "error"} for number in numbers]
    try:
        if client is None:
            client = PyLogBeatClient("127.0.0.1", int(port), timeout=20)
        client.send(events)
    except Exception as error:
        print("again:", error, file=sys.stderr)
        client = None
        time.sleep(0.05)
        continue
    record.write("".join(f"{number:06}\n" for number in numbers))
    first = numbers.stop
client.close()
