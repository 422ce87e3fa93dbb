"""HTTP/1.1 for measurements: clients and app servers of which one Python process has thousands, at a few thousand requests a second.

Requests are GETs without a body; of an answer its status counts. Shared by benches/peers and tests/acceptance.
"""

import asyncio
import time


class Connection(asyncio.Protocol):
    """A client's connection: one request after the other."""

    def __init__(self):
        self.transport, self.waiting, self.seen = None, None, b""
        self.is_usable = False

    def connection_made(self, transport):
        self.transport, self.is_usable = transport, True

    def ask(self, path):
        """A future of the status; `OSError` if the connection ends before."""
        self.waiting, self.seen = asyncio.get_running_loop().create_future(), b""
        self.transport.write(b"GET %s HTTP/1.1\r\nHost: app\r\n\r\n" % path.encode())
        return self.waiting

    def data_received(self, data):
        self.seen += data
        head, ended, body = self.seen.partition(b"\r\n\r\n")
        if ended and len(body) >= length_of(head):
            self.is_usable = self.is_usable and b"\r\nconnection: close" not in head.lower()
            self.settle(int(head[9:12]))

    def connection_lost(self, error):
        self.is_usable = False
        if self.waiting and not self.waiting.done():
            self.waiting.set_exception(error or ConnectionResetError("closed without an answer"))

    def settle(self, status):
        if not self.waiting.done():
            self.waiting.set_result(status)

    def close(self):
        self.is_usable = False
        self.transport.close()


def length_of(head):
    _, _, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0] or 0)


class Client:
    """Asks over kept connections; gives up by closing."""

    def __init__(self, port):
        self.port, self.idle = port, []

    async def ask(self, path="/", patience=60.0):
        """The status; 0 if none has come in time, -1 if the connection failed."""
        try:
            async with asyncio.timeout(patience):
                connection = await self.connection()
                try:
                    status = await connection.ask(path)
                except BaseException:
                    connection.close()
                    raise
        except TimeoutError:
            return 0
        except OSError:
            return -1
        self.idle.append(connection)
        return status

    async def connection(self):
        while self.idle:
            connection = self.idle.pop()
            if connection.is_usable:
                return connection
            connection.transport.close()
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, "127.0.0.1", self.port)
        return connection

    def close(self):
        for connection in self.idle:
            connection.close()
        self.idle.clear()


class ServerConnection(asyncio.Protocol):
    """What an app server has of a balancer's connection. `app.asked(path, connection)` is called for each request, and calls
    `reply` once it is done."""

    def __init__(self, app):
        self.app, self.transport, self.seen = app, None, b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.seen += data
        if b"\r\n\r\n" in self.seen:
            line, self.seen = self.seen.partition(b"\r\n")[0], b""
            self.app.asked(line.split()[1].decode(), self)

    def is_gone(self):
        """Nobody is there any more to be answered."""
        return self.transport.is_closing()

    def reply(self, status=200):
        if not self.is_gone():
            self.transport.write(b"HTTP/1.1 %d Said\r\nContent-Length: 2\r\n\r\nok" % status)

    def reset(self):
        self.transport.abort()


async def listen(app):
    """The port of a new server for `app`, and the server."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: ServerConnection(app), "127.0.0.1", 0, backlog=4096)
    return server.sockets[0].getsockname()[1], server


class Pace:
    """Whether this process keeps up: how late it wakes, and the share of a core that it takes."""

    EVERY = 0.01

    def __init__(self):
        self.late = []
        self.began = (time.monotonic(), time.process_time())

    async def watch(self):
        while True:
            due = time.monotonic() + self.EVERY
            await asyncio.sleep(self.EVERY)
            self.late.append(time.monotonic() - due)

    def lateness(self, share=0.99):
        """In seconds; so many of its wakings were less late."""
        late = sorted(self.late)
        return late[int((len(late) - 1) * share)] if late else 0.0

    def busy(self):
        return (time.process_time() - self.began[1]) / (time.monotonic() - self.began[0])
