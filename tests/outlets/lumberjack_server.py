"""timbersnake's Lumberjack server: `lumberjack_server.py PORT` prints `listens`, and `got TEXT` for each message
before it acks."""
import asyncio
import json
import sys

from timbersnake import server


class Server(server.Server):
    def json_frame_str(self, s, pos=0):
        size = int.from_bytes(s[pos + 4 : pos + 8], "big")
        event = json.loads(s[pos + 8 : pos + 8 + size])
        print("got", event["message"].replace("\n", " "), flush=True)
        return super().json_frame_str(s, pos)


async def main():
    ours = Server("127.0.0.1", int(sys.argv[1]))
    serving = asyncio.ensure_future(ours.start_and_serve_forever())
    await asyncio.sleep(0.2)
    print("listens", flush=True)
    await serving


asyncio.run(main())
