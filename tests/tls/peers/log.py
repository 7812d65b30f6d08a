"""Python's logging over TLS. Arguments: port, messages, CA, and certificate and key or nothing."""

import logging
import logging.handlers
import ssl
import sys

port, count, ca, *shown = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
if shown:
    context.load_cert_chain(*shown)


class Handler(logging.handlers.SocketHandler):
    """A line of syslog for each record."""

    def makeSocket(self, timeout=10):
        return context.wrap_socket(super().makeSocket(timeout), server_hostname="localhost")

    def makePickle(self, record):
        return f"<13>{self.format(record)}\n".encode()


handler = Handler("127.0.0.1", int(port))
handler.handleError = lambda record: sys.exit("not sent")
logger = logging.getLogger("app")
logger.addHandler(handler)
for number in range(int(count)):
    logger.warning("message %d", number)
# Reads what the server has to say as well: who closes before, resets.
handler.sock.unwrap()
