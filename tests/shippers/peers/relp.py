"""relppy, as a shipper uses it: BATCH messages in flight, those that were not answered again on a new session.

    relp.py PORT RECORD FIRST END BATCH

RECORD gets the number of each message that was answered with 200: it is what the sender knows, and outlives it.
"""

import concurrent.futures
import os
import sys
import threading

from relppy.client import RelpTCPClient

port, record, first, end, batch = sys.argv[1], open(sys.argv[2], "a", buffering=1), *map(int, sys.argv[3:6])
# relppy takes no notice of a connection that was reset, and may wait for itself then: it is left alone, and a new one begins.
ANSWER_TIME = 2
waiting = list(range(first, end))
client = None


def send(answers):
    """Sends a batch; what was sent goes into `answers`."""
    global client
    if client is None or not client.connected:
        client = RelpTCPClient(("127.0.0.1", int(port)), resend_interval=3600)
    used = client
    for number in waiting[:batch]:
        answers[number] = used.send_command(b"syslog", f"<11>message {number:06}".encode())
    concurrent.futures.wait(answers.values(), ANSWER_TIME)


while waiting:
    answers = {}
    sender = threading.Thread(target=send, args=(answers,), daemon=True)
    sender.start()
    sender.join(2 * ANSWER_TIME)
    if sender.is_alive() or not all(answer.done() for answer in answers.values()):
        client = None
    for number, answer in list(answers.items()):
        if answer.done() and answer.result() == b"200 OK":
            record.write(f"{number:06}\n")
            waiting.remove(number)
        elif answer.done():
            print(f"message {number}: {answer.result()}", file=sys.stderr)
            os._exit(1)
client.close()
os._exit(0)
