"""pylogbeat over TLS. Arguments: port, messages, CA, and certificate and key or nothing."""

import sys

from pylogbeat import PyLogBeatClient

port, count, ca, *shown = sys.argv[1:]
cert, key = shown or (None, None)
client = PyLogBeatClient("127.0.0.1", int(port), timeout=20, ssl_enable=True, ca_certs=ca, certfile=cert, keyfile=key)
client.connect()
for first in range(0, int(count), 500):
    numbers = range(first, min(first + 500, int(count)))
    # It returns when the window was ACKed.
    client.send([{"message": f"message {number}"} for number in numbers])
client.close()
