"""A server that takes what Elasticsearch, an OpenTelemetry collector, Loki, Splunk or any HTTP server takes.

None of them can be had from the packages here. This one is written from their documents, in another language, with
parsers of its own: it shares nothing with the distributor. Arguments: its kind, a file for what it took, and a plan in
JSON: what to do with the first requests, one word each. Prints its port.

  kinds   ndjson json es otlp otlp-json loki hec
  plan    ok            take it
          429 503 400   that status, nothing taken; "503/1" and "429/1": with Retry-After: 1
          500           nothing taken
          cut           taken, and the answer is cut off within its body (or its head, where it has none)
          reset         nothing taken, and the connection is closed without an answer
          partial/N     OTLP: all but the last N are taken, and the answer says how many were not
          busy/N        es: every Nth item is 429
          misfit        taken, and the answer is of another server
          wait/N        hec: the ack of this request is true at the Nth question

Each line of the file is one message that was taken: {"text", "id", "fields"}; or a request: {"request": path, ...}.
"""

import base64
import json
import socket
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KIND, RECORD, PLAN = sys.argv[1], open(sys.argv[2], "a", buffering=1), json.loads(sys.argv[3])
LOCK = threading.Lock()
DOCUMENTS, ACKS = {}, {}


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(data):
    """Fields of a message of protocol buffers: number and value."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 1:
            value, at = struct.unpack_from("<Q", data, at)[0], at + 8
        elif kind == 2:
            length, at = varint(data, at)
            assert at + length <= len(data), "a length beyond its message"
            value, at = data[at : at + length], at + length
        elif kind == 5:
            value, at = struct.unpack_from("<I", data, at)[0], at + 4
        else:
            raise ValueError(f"wire type {kind}")
        yield key >> 3, value


def otlp(body):
    for number, resource in fields(body):
        assert number == 1, number
        for number, scope in fields(resource):
            assert number == 2, number
            for number, record in fields(scope):
                assert number == 2, number
                found = dict(fields(record))
                ((kind, text),) = fields(found[5])
                assert kind in (1, 7) and found[11] > 10**18, found
                yield {"text": text.decode("utf-8", "backslashreplace"), "fields": {"severity": found[2]}}


def otlp_json(body):
    for resource in json.loads(body)["resourceLogs"]:
        for scope in resource["scopeLogs"]:
            for record in scope["logRecords"]:
                assert int(record["observedTimeUnixNano"]) > 10**18
                yield {"text": record["body"]["stringValue"], "fields": {"severity": record["severityNumber"]}}


def said(value):
    """The text of an object."""
    text = value.get("message") if isinstance(value, dict) else value
    if isinstance(value, dict) and value.get("encoding") == "base64":
        text = base64.b64decode(text).decode("utf-8", "backslashreplace")
    return text if isinstance(text, str) else json.dumps(value)


def messages(body):
    if KIND == "ndjson":
        assert body.endswith(b"\n")
        return [{"text": said(json.loads(line)), "fields": json.loads(line)} for line in body.splitlines()]
    if KIND == "json":
        return [{"text": said(value), "fields": value} for value in json.loads(body)]
    if KIND == "es":
        lines = body.decode().split("\n")
        assert lines.pop() == "" and len(lines) % 2 == 0
        actions = [json.loads(line) for line in lines[::2]]
        assert all(list(action) == ["create"] for action in actions)
        documents = [json.loads(line) for line in lines[1::2]]
        assert all("@timestamp" in document for document in documents)
        ids = [action["create"].get("_id") for action in actions]
        return [{"text": said(d), "id": i, "fields": d} for i, d in zip(ids, documents)]
    if KIND == "otlp":
        return list(otlp(body))
    if KIND == "otlp-json":
        return list(otlp_json(body))
    if KIND == "loki":
        streams = json.loads(body)["streams"]
        return [
            {"text": line, "fields": stream["stream"], "time": int(time)}
            for stream in streams
            for time, line in stream["values"]
        ]
    events, decoder, text, at = [], json.JSONDecoder(), body.decode(), 0
    while at < len(text):
        event, at = decoder.raw_decode(text, at)
        assert event["event"] not in ("", None) and isinstance(event["time"], float)
        events.append({"text": said(event["event"]), "fields": event})
    return events


def record(entry):
    RECORD.write(json.dumps(entry) + "\n")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", kind="application/json", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if status != 204 else b"")

    def cut(self, body):
        """The head says more than comes."""
        if body:
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            self.wfile.write(head + body[: len(body) // 2])
        else:
            self.wfile.write(b"HTTP/1.1 20")
        self.close_connection = True

    def do_GET(self):
        record({"request": self.path, "headers": dict(self.headers)})
        self.answer(200 if self.path == "/well" else 404)

    def do_PUT(self):
        self.do_POST()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if KIND == "hec" and self.path.endswith("/ack"):
            return self.acks(json.loads(body)["acks"])
        with LOCK:
            word = PLAN.pop(0) if PLAN else "ok"
            record({"request": self.path, "method": self.command, "headers": dict(self.headers), "word": word})
            self.carry_out(word, messages(body))

    def acks(self, ids):
        with LOCK:
            state = {}
            for number in ids:
                ACKS[number] -= 1
                state[str(number)] = ACKS[number] <= 0
            self.answer(200, json.dumps({"acks": state}).encode())

    def carry_out(self, word, found):
        word, _, number = word.partition("/")
        if word.isdigit():
            headers = [("Retry-After", number)] if number else []
            return self.answer(int(word), b'{"error":"planned"}', headers=headers)
        if word == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return self.connection.close()
        take = {"es": self.bulk, "hec": self.hec}.get(KIND, self.plain)
        take(word, int(number or 0), found)

    def plain(self, word, number, found):
        taken = found[: len(found) - number] if word == "partial" else found
        for message in taken:
            record(message)
        if KIND == "otlp":
            body = b""
            if word == "partial":
                part = b"\x08" + bytes([number]) + b"\x12\x07planned"
                body = b"\x0a" + bytes([len(part)]) + part
        elif KIND == "otlp-json":
            body = b"{}"
            if word == "partial":
                body = json.dumps({"partialSuccess": {"rejectedLogRecords": str(number), "errorMessage": "planned"}}).encode()
        else:
            body = b""
        if word == "cut":
            return self.cut(body)
        self.answer(204 if KIND == "loki" else 200, body)

    def bulk(self, word, number, found):
        items, errors = [], False
        for at, message in enumerate(found, 1):
            status, error = 201, None
            if word == "busy" and at % number == 0:
                status, error = 429, {"type": "es_rejected_execution_exception", "reason": "planned"}
            elif "poison" in message["text"]:
                status, error = 400, {"type": "document_parsing_exception", "reason": "planned"}
            elif message["id"] in DOCUMENTS:
                status, error = 409, {"type": "version_conflict_engine_exception", "reason": "exists"}
            else:
                if message["id"]:
                    DOCUMENTS[message["id"]] = message["text"]
                record(message)
            errors |= error is not None
            items.append({"create": {"status": status, **({"error": error} if error else {})}})
        body = json.dumps({"took": 1, "errors": errors, "items": items}).encode()
        if word == "cut":
            return self.cut(body)
        if word == "misfit":
            body = b"<html>Welcome</html>"
        self.answer(200, body)

    def hec(self, word, number, found):
        for message in found:
            record(message)
        answer = {"text": "Success", "code": 0}
        if "X-Splunk-Request-Channel" in self.headers and word != "misfit":
            answer["ackId"] = len(ACKS)
            ACKS[len(ACKS)] = max(number, 1)
        body = json.dumps(answer).encode()
        if word == "cut":
            return self.cut(body)
        self.answer(200, body)


class Server(ThreadingHTTPServer):
    daemon_threads = True


if __name__ == "__main__":
    server = Server(("127.0.0.1", int(sys.argv[4]) if len(sys.argv) > 4 else 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
