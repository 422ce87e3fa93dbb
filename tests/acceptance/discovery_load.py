"""App servers that say who they are, and a paced load that checks every reply, in one event loop."""

import asyncio
import itertools
import time
from collections import Counter

PATIENCE_S = 10


class App:
    """A server on one address, or on all of this machine; it says which address it was asked at."""

    def __init__(self, address, port):
        self.address, self.port = address, port
        self.connections = set()
        self.server = None

    async def start(self):
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: AppConnection(self), self.address, self.port, backlog=1000)

    def die(self):
        """At once, with whatever it has open."""
        self.server.close()
        for connection in list(self.connections):
            connection.transport.abort()


class AppConnection(asyncio.Protocol):
    def __init__(self, app):
        self.app, self.heard = app, b""

    def connection_made(self, transport):
        self.transport = transport
        self.at = transport.get_extra_info("sockname")[0]
        self.app.connections.add(self)

    def connection_lost(self, _error):
        self.app.connections.discard(self)

    def data_received(self, data):
        self.heard += data
        while b"\r\n\r\n" in self.heard:
            head, self.heard = self.heard.split(b"\r\n\r\n", 1)
            said = b"%s %s" % (self.at.encode(), head.split(b" ", 2)[1])
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said))
            if b"\r\nconnection: close" in head.lower():
                self.transport.close()


class ClientConnection(asyncio.Protocol):
    """One request at a time; tells its load of each one's end."""

    def __init__(self, load):
        self.load, self.heard, self.asked, self.is_used = load, b"", None, False

    def connection_made(self, transport):
        self.transport = transport

    def ask(self, request):
        self.heard, self.asked = b"", request
        close = "Connection: close\r\n" if request.closes else ""
        self.transport.write(f"GET {request.path} HTTP/1.1\r\nHost: app.test\r\n{close}\r\n".encode())

    def data_received(self, data):
        self.heard += data
        if not self.asked or b"\r\n\r\n" not in self.heard:
            return
        head, body = self.heard.split(b"\r\n\r\n", 1)
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), None)
        if length is None or len(body) < length:
            return
        request, self.asked = self.asked, None
        status = lines[0].split(b" ")[1].decode()
        who, _, path = body.decode(errors="replace").partition(" ")
        self.is_used = True
        if request.closes or b"connection: close" in lines:
            self.transport.close()
        else:
            self.load.idle.append(self)
        if status != "200":
            self.load.ended(request, f"status {status}")
        elif path != request.path:
            self.load.ended(request, "a reply to another request")
        else:
            self.load.ended(request, None, who)

    def connection_lost(self, error):
        if self in self.load.idle:
            self.load.idle.remove(self)
        if self.asked:
            request, self.asked = self.asked, None
            if self.is_used and not self.heard:
                # It was closed while the request was on its way: a client asks again (RFC 9112, 9.3.1).
                self.load.n_again += 1
                self.load.send(request)
            else:
                self.load.ended(request, type(error).__name__ if error else "cut")


class Request:
    def __init__(self, path, closes):
        self.path, self.closes, self.at = path, closes, time.monotonic()


class Load:
    """So many requests a second to one port, whoever is late; one in ten by a connection of its own."""

    def __init__(self, port, rate):
        self.port, self.rate = port, rate
        self.idle, self.waiting, self.tasks = [], {}, set()
        self.n_sent = self.n_again = 0
        self.failures, self.outcomes, self.times = Counter(), [], []
        self.stopping = False

    async def run(self):
        began, numbers = time.monotonic(), itertools.count()
        while not self.stopping:
            now = time.monotonic()
            while self.n_sent < (now - began) * self.rate:
                number = next(numbers)
                self.n_sent += 1
                request = Request(f"/{number}", number % 10 == 0)
                self.waiting[request.path] = request
                self.send(request)
            for request in [r for r in self.waiting.values() if now - r.at > PATIENCE_S]:
                self.ended(request, "no answer")
            await asyncio.sleep(0.004)
        end = time.monotonic() + PATIENCE_S
        while self.waiting and time.monotonic() < end:
            await asyncio.sleep(0.01)
        for request in list(self.waiting.values()):
            self.ended(request, "no answer")
        for connection in list(self.idle):
            connection.transport.abort()

    def send(self, request):
        if self.idle and not request.closes:
            self.idle.pop().ask(request)
            return
        task = asyncio.get_running_loop().create_task(self.connect(request))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def connect(self, request):
        try:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(lambda: ClientConnection(self), "127.0.0.1", self.port)
            connection.ask(request)
        except OSError as error:
            self.ended(request, type(error).__name__)

    def ended(self, request, failure, who=None):
        if self.waiting.pop(request.path, None) is None:
            return
        if failure:
            self.failures[failure] += 1
        self.outcomes.append((request.at, failure, who))
        self.times.append(time.monotonic() - request.at)

    @property
    def n_failed(self):
        return sum(self.failures.values())

    def p99_ms(self):
        times = sorted(self.times)
        return times[len(times) * 99 // 100] * 1000 if times else 0.0

    def who(self, since, until=float("inf")):
        """Who answered the requests that were sent since then."""
        return Counter(who for at, failure, who in self.outcomes if since <= at < until and not failure)
