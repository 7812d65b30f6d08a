"""python-logstash-async with its Beats transport, as a program's logging handler.

    logstash.py PORT COUNT
"""

import logging
import sys

from logstash_async.handler import AsynchronousLogstashHandler
from logstash_async.transport import BeatsTransport

no_tls = {key: None for key in ("ssl_verify_flags", "keyfile", "certfile", "ca_certs")}
transport = BeatsTransport("127.0.0.1", int(sys.argv[1]), timeout=20.0, ssl_enable=False, ssl_verify=False, **no_tls)
handler = AsynchronousLogstashHandler("127.0.0.1", int(sys.argv[1]), database_path=None, transport=transport)
log = logging.getLogger("app")
log.addHandler(handler)
for number in range(int(sys.argv[2])):
    log.error("message %06d", number)
handler.close()
