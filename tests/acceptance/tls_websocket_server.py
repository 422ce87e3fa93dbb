#!/usr/bin/env python3
"""A WebSocket server for the TLS run, of the package `websockets`: sends back what it gets.

    tls_websocket_server.py NAME PORT

The first message tells its name. A text `close CODE REASON` closes with that.
"""

import asyncio
import sys

from websockets.asyncio.server import serve


async def run(name, port):
    async def talk(socket):
        async for message in socket:
            if isinstance(message, str) and message.startswith("close "):
                _, code, reason = message.split(" ", 2)
                await socket.close(int(code), reason)
            elif message == "who":
                await socket.send(name)
            else:
                await socket.send(message)

    async with serve(talk, "127.0.0.1", port, max_size=8 << 20, ping_interval=None):
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2])))
