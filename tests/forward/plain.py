"""fluent-logger of Python, which knows no acks. Arguments: host, port, messages."""

import sys

from fluent import sender

host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
logger = sender.FluentSender("python", host=host, port=port, nanosecond_precision=True)
for number in range(count):
    record = {"message": f"#weir:{number:012}", "level": "debug", "nested": {"list": [1, 2.5, None, True, b"\xff"]}}
    if not logger.emit("events", record):
        print("failed", logger.last_error)
        sys.exit(1)
logger.close()
