"""relppy's RELP server: `relp_server.py PORT` prints `listens`, and `got TEXT` for each message before it answers."""
import socketserver
import sys

from relppy.server import RelpStreamHandler


class Handler(RelpStreamHandler):
    def do_syslog(self, message):
        print("got", message.data.decode("utf-8", "replace").replace("\n", " "), flush=True)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


with Server(("127.0.0.1", int(sys.argv[1])), Handler) as server:
    print("listens", flush=True)
    server.serve_forever()
