"""An HTTP analyzer in the reference's shape: POST /logs, GET /health. For the tests.

    analyzer.py PORT FILE [MODE]

Each packet that is ACKed is a line of FILE before it is answered:
X-Packet-ID, X-Emitter-ID, Content-Type, number of messages, their `message` fields joined by 0x1f.
MODE: ok; fail (500 to each POST); slow (a POST takes 200 ms); flaky (every third POST fails);
close (Connection: close after each answer); sick (health says 500); early (the first two POSTs are refused before
their body is read); picky (a packet whose first message is 5, 15, 25, ... is refused for good: 422); refuse (400 to each POST);
status=N (to each POST); limit=BYTES (413 to longer bodies, as Express does at 100 kB); once=N:SECONDS (the first POST gets
status N with that Retry-After); headers=N (so many headers in each answer); lf (lines of an answer end with LF alone);
slowbody (the body of an answer never ends); objects (messages may be any objects, as inputs of JSON give); first=N:KIND (the first N POSTs get: a number, that status with a Location;
garbage, a head that cannot be read; greeting, no HTTP at all).
"""
import json
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, path, mode = int(sys.argv[1]), sys.argv[2], (sys.argv[3:] + ["ok"])[0]
out = open(path, "a", buffering=1)
lock = threading.Lock()
posts = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if mode == "close":
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        healthy = self.path == "/health" and mode != "sick"
        self.answer(200 if healthy else 500, {"status": "healthy" if healthy else "sick"})

    def bare(self, lines, body, end="\r\n"):
        self.wfile.write((end.join(lines + ["Content-Length: 2"]) + end * 2 + body).encode())

    def do_POST(self):
        global posts
        kind, _, value = mode.partition("=")
        if mode == "early" and posts < 2:
            posts += 1
            self.close_connection = True
            return self.answer(503, {"error": "before the body was read"})
        body = self.rfile.read(int(self.headers["Content-Length"]))
        packet = json.loads(body)
        with lock:
            posts += 1
            number = posts
        if kind == "status":
            return self.answer(int(value), {"error": "as told"})
        if kind == "limit" and len(body) > int(value):
            return self.answer(413, {"error": "as told"})
        if kind == "first" and number <= int(value.split(":")[0]):
            what = value.split(":")[1]
            if what == "greeting":
                self.close_connection = True
                return self.wfile.write(b"220 mail ESMTP\r\n")
            if what == "garbage":
                return self.bare(["HTTP/1.1 200 OK", "not a header"], "no")
            return self.bare(["HTTP/1.1 %s As Told" % what, "Location: https://other.example/logs?key=\x9b2J"], "no")
        if kind == "once" and number == 1:
            status, seconds = value.split(":")
            return self.bare(["HTTP/1.1 %s As Told" % status, "Retry-After: " + seconds], "no")
        if mode == "slow":
            time.sleep(0.2)
        if self.path != "/logs" or mode == "fail" or mode == "flaky" and number % 3 == 0:
            return self.answer(500, {"error": "as told"})
        if mode == "refuse":
            return self.answer(400, {"error": "as told"})
        if mode == "forbidding" and packet["messages"][0]["message"].endswith("5"):
            return self.answer(403, {"error": "as told"})
        if mode == "picky" and packet["messages"][0]["message"].endswith("5"):
            return self.answer(422, {"error": "as told"})
        assert packet["size"] == len(packet["messages"]), packet
        for message in packet["messages"]:
            for field in ("id", "timestamp", "source"):
                assert mode == "objects" or field in message, (field, message)
        headers = [self.headers[name] for name in ("X-Packet-ID", "X-Emitter-ID", "Content-Type")]
        assert headers[0] == packet["id"] and headers[1] == packet["emitterId"], (headers, packet)
        numbers = "\x1f".join(str(message.get("message", message)) for message in packet["messages"])
        with lock:
            out.write(" ".join([*headers, str(packet["size"]), numbers]) + "\n")
        if kind == "headers":
            return self.bare(["HTTP/1.1 200 OK"] + ["X-%d: y" % n for n in range(int(value) - 1)], "ok")
        if kind == "lf":
            return self.bare(["HTTP/1.1 200 OK"], "ok", "\n")
        if kind == "slowbody":
            self.bare(["HTTP/1.1 200 OK"], "o")
            return time.sleep(3600)
        self.answer(200, {"success": True})


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


server = Server(("127.0.0.1", port), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
