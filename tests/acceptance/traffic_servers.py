"""Servers that live in the run's own process, so that it knows what each of them was asked, by whom, and when."""

import asyncio
import time
from collections import Counter, deque

from app import App


class Notebook:
    """What all servers saw. `judge` says what is wrong with a request that came to a server, given when its client began."""

    def __init__(self, judge=lambda server, began, now: ""):
        self.judge = judge
        self.requests = Counter()
        self.posts = Counter()
        # The last datagrams: of one without an answer it is worth knowing whether it came.
        self.datagrams = deque(maxlen=2000)
        self.wrong = []

    def note(self, server, method, identity, began):
        now = time.monotonic()
        self.requests[server] += 1
        if method == "POST" and identity:
            self.posts[identity] += 1
            if self.posts[identity] > 1:
                self.wrong.append(f"POST {identity} came {self.posts[identity]} times, the last time to {server}")
        if identity.startswith("never-"):
            self.wrong.append(f"{identity}, which no server may see, came to {server}")
        if method == "UDP":
            self.datagrams.append(identity)
        if began:
            fault = self.judge(server, float(began), now)
            if fault:
                self.wrong.append(f"{method} {identity} came to {server} {fault}")

    def take_wrong(self):
        taken, self.wrong = self.wrong, []
        return taken


class Manner:
    """How a server treats probes: `pass`, `fail`, `hang`, `slow` or `interim` (103 first); and requests: `well`, `cut`, or
    `silent`."""

    def __init__(self):
        self.probes, self.requests = "pass", "well"
        self.count = 0
        self.changed = asyncio.Event()

    def turn(self, probes):
        self.probes = probes
        self.changed.set()
        self.changed = asyncio.Event()

    async def hold(self):
        """As long as the manner stays, and not for ever."""
        try:
            await asyncio.wait_for(self.changed.wait(), 20)
        except asyncio.TimeoutError:
            pass

    def passes(self):
        return self.probes in ("pass", "slow", "interim")


class HttpServer(App):
    """app.py's server in this process."""

    def __init__(self, name, notebook):
        super().__init__(name)
        self.notebook, self.manner = notebook, Manner()
        # Requests and WebSockets that it has now, probes apart.
        self.active = 0

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=1024, limit=1 << 21)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def answer(self, writer, method, target, headers, body):
        if target.partition("?")[0] == "/healthz":
            return await self.probe(writer, method)
        self.notebook.note(self.name, method, headers.get("x-request-id", ""), headers.get("x-began"))
        if self.manner.requests == "cut":
            writer.write(f"HTTP/1.1 200 OK\r\nX-Server: {self.name}\r\nContent-Length: 4096\r\n\r\nshort".encode())
            await writer.drain()
            raise ConnectionResetError
        if self.manner.requests == "silent":
            await self.manner.hold()
            raise ConnectionResetError
        self.active += 1
        try:
            await super().answer(writer, method, target, headers, body)
        finally:
            self.active -= 1

    async def websocket(self, reader, writer, headers):
        self.notebook.note(self.name, "GET", headers.get("x-request-id", ""), headers.get("x-began"))
        self.active += 1
        try:
            await super().websocket(reader, writer, headers)
        finally:
            self.active -= 1

    async def probe(self, writer, method):
        manner = self.manner
        manner.count += 1
        if manner.probes == "hang":
            await manner.hold()
            raise ConnectionResetError
        if manner.probes == "slow":
            await asyncio.sleep(0.1)
        if manner.probes == "interim":
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
        good = manner.probes != "fail"
        self.reply(writer, "200 OK" if good else "503 Service Unavailable", method, b"", b"ok\n" if good else b"no\n", "text/plain")
        await writer.drain()


class TcpServer:
    """The first line of a connection says when its client began and what it is called; the rest comes back."""

    def __init__(self, name, notebook):
        self.name, self.notebook, self.manner = name, notebook, Manner()
        self.connections = set()

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=1024)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def serve(self, reader, writer):
        self.connections.add(writer)
        try:
            line = await reader.readline()
            if line == b"PING\r\n":
                self.manner.count += 1
                if self.manner.probes == "hang":
                    await self.manner.hold()
                writer.write(b"+PONG\r\n" if self.manner.passes() else b"-NO\r\n")
            elif line.endswith(b"\n"):
                began, identity = line.decode().split()
                self.notebook.note(self.name, "TCP", identity, began)
                writer.write(f"{self.name}\n".encode())
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
        except (OSError, ValueError):
            pass
        finally:
            self.connections.discard(writer)
            writer.close()


class UdpServer(asyncio.DatagramProtocol):
    """`began identity …` comes back behind the server's name; `PING` is a probe."""

    connections = ()

    def __init__(self, name, notebook):
        self.name, self.notebook, self.manner = name, notebook, Manner()

    async def start(self):
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        self.port = self.transport.get_extra_info("sockname")[1]
        return self

    def datagram_received(self, data, address):
        if data == b"PING":
            self.manner.count += 1
            if self.manner.passes():
                self.transport.sendto(b"PONG", address)
            return
        words = data.split(b" ", 2)
        # What strangers send is none of these, and is not answered.
        if len(words) == 3 and words[1].startswith(b"acc-"):
            began, identity = (word.decode() for word in words[:2])
            self.notebook.note(self.name, "UDP", identity, None if began == "-" else began)
            self.transport.sendto(self.name.encode() + b"|" + data, address)
