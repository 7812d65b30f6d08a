"""An HTTP client that asks for ACKs: `POST /logs?wait=acked`.

    waiter.py HOST PORT ID CONNECTIONS PACKETS BATCH REPORT

Each connection posts PACKETS packets of BATCH messages, numbered as `weir emitter` numbers them, the next when the one
before is answered. Prints `all acked` when every answer was 200 `acked` on the first connection, after it has written
an emitter's run report; else what it got instead.
"""

import http.client
import json
import sys
import threading
import time

import run_reports

SIZE = 120
PAUSE_SECONDS = 0.02


def post_all(host, port, stream, packets, batch, wrong):
    """One connection; appends to `wrong` what was not acked."""
    connection = http.client.HTTPConnection(host, port, timeout=60)
    try:
        for packet in range(packets):
            numbers = range(packet * batch + 1, (packet + 1) * batch + 1)
            messages = [{"message": run_reports.payload(stream, number, SIZE).decode()} for number in numbers]
            body = json.dumps({"emitterId": stream, "messages": messages})
            connection.request("POST", "/logs?wait=acked", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            said = json.loads(answer.read())
            if (answer.status, said.get("status")) != (200, "acked"):
                wrong.append(f"packet {packet} of {stream}: {answer.status} {said}")
                return
            time.sleep(PAUSE_SECONDS)
    except OSError as error:
        wrong.append(f"{stream}: {error}")
    finally:
        connection.close()


def main():
    host, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    connections, packets, batch = map(int, sys.argv[4:7])
    started, wrong = run_reports.moment(), []
    posters = [
        threading.Thread(target=post_all, args=(host, port, f"{name}/{index}", packets, batch, wrong))
        for index in range(connections)
    ]
    for poster in posters:
        poster.start()
    for poster in posters:
        poster.join()
    if wrong:
        sys.exit(wrong[0])
    run_reports.write(sys.argv[7], name, connections, packets * batch, SIZE, started)
    print("all acked", flush=True)


main()
