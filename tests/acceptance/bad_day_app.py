"""One app server of the bad day, a process of its own so that it can be killed and stopped.

    bad_day_app.py PORT NAME ORDERS

Answers GET and POST after some 40 ms (log-normal). `/mode?slow=10&errors=0.3` makes it ten times slower, and answer 30 % with 503.
Each order (POST with X-Order) is written to the file ORDERS before it is answered: what stands there was executed.
"""

import asyncio
import os
import random
import sys
from urllib.parse import parse_qs

MEDIAN, SIGMA = 0.04, 0.35


class App:
    def __init__(self, name, orders):
        self.name = name.encode()
        self.orders = os.open(orders, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.slow, self.errors = 1.0, 0.0
        self.rng = random.Random(name)

    async def serve(self, reader, writer):
        try:
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
                method, path = lines[0].split()[:2]
                fields = dict((name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines[1:]))
                if length := int(fields.get(b"content-length", 0)):
                    await reader.readexactly(length)
                status, body = await self.answer(method, path, fields)
                writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer(self, method, path, fields):
        if path == b"/healthz":
            return b"200 OK", b"ok"
        if path.startswith(b"/mode"):
            asked = parse_qs(path.partition(b"?")[2].decode())
            self.slow, self.errors = float(asked["slow"][0]), float(asked["errors"][0])
            return b"200 OK", b"ok"
        await asyncio.sleep(MEDIAN * self.rng.lognormvariate(0, SIGMA) * self.slow)
        if self.rng.random() < self.errors:
            return b"503 Service Unavailable", b"no"
        if method == b"POST":
            os.write(self.orders, b"%s %s\n" % (fields.get(b"x-order", b"?"), self.name))
        return b"200 OK", self.name


async def main():
    port, name, orders = sys.argv[1:4]
    app = App(name, orders)
    server = await asyncio.start_server(app.serve, "127.0.0.1", int(port), backlog=4096)
    async with server:
        await server.serve_forever()


asyncio.run(main())
