"""Clients that check every single reply: status, length, checksum, the server's name, and that nothing closes early."""

import asyncio
import base64
import hashlib
import os
import random
import struct
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field

from app import WEBSOCKET_GUID, content

PATIENCE_S = 20


@dataclass
class Failure:
    """One exchange that did not end as it should. `kind`: status, reset, truncated, wrong, timeout, refused."""

    kind: str
    request_id: str
    method: str
    path: str
    began: float
    ended: float
    server: str
    reply_begun: bool
    body_size: int
    detail: str


@dataclass
class Tally:
    """What the checking clients saw."""

    requests: Counter = field(default_factory=Counter)  # by method
    failures: list = field(default_factory=list)
    slowest_s: float = 0.0
    # Kept-alive connections that the balancer closed although the listener stayed.
    closed: list = field(default_factory=list)

    def total(self):
        return sum(self.requests.values())


class Bad(Exception):
    def __init__(self, kind, detail, server="", reply_begun=False):
        super().__init__(detail)
        self.kind, self.detail, self.server, self.reply_begun = kind, detail, server, reply_begun


@dataclass
class Reply:
    status: int
    headers: dict
    body: bytes

    @property
    def server(self):
        return self.headers.get("x-server", "")


class Connection:
    """One HTTP/1.1 connection. `where` is (host, port) or the path of a unix socket."""

    def __init__(self, where):
        self.where = where
        self.reader = self.writer = None
        self.must_close = False

    async def open(self):
        try:
            if isinstance(self.where, str):
                opening = asyncio.open_unix_connection(self.where, limit=1 << 21)
            else:
                opening = asyncio.open_connection(*self.where, limit=1 << 21)
            self.reader, self.writer = await asyncio.wait_for(opening, PATIENCE_S)
        except OSError as e:
            raise Bad("refused", f"connect: {e}") from e
        return self

    def is_closed(self):
        """The other side has closed (or we never opened)."""
        return self.reader is None or self.reader.at_eof() or self.reader.exception() is not None

    def close(self):
        if self.writer:
            self.writer.close()
            self.writer = self.reader = None

    async def exchange(self, method, path, headers=(), body=None, chunks=None, host="app.example"):
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{k}: {v}" for k, v in headers)]
        if chunks is not None:
            lines.append("Transfer-Encoding: chunked")
            payload = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"
        elif body is not None:
            lines.append(f"Content-Length: {len(body)}")
            payload = body
        else:
            payload = b""
        try:
            self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + payload)
            return await asyncio.wait_for(self.read_reply(method), PATIENCE_S)
        except asyncio.TimeoutError as e:
            raise Bad("timeout", f"no whole reply in {PATIENCE_S} s") from e

    async def read_reply(self, method):
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, OSError) as e:
            partial = getattr(e, "partial", b"")
            raise Bad("reset", f"no reply: {e!r}", reply_begun=bool(partial)) from e
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = {}
        for line in lines[1:]:
            if line:
                key, _, value = line.partition(":")
                headers[key.strip().lower()] = value.strip()
        self.must_close = headers.get("connection", "").lower() == "close"
        body = bytearray()
        try:
            if method == "HEAD" or status in (204, 304):
                pass
            elif "chunked" in headers.get("transfer-encoding", ""):
                while True:
                    size = int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16)
                    if size == 0:
                        while await self.reader.readuntil(b"\r\n") != b"\r\n":
                            pass
                        break
                    body += await self.reader.readexactly(size)
                    await self.reader.readexactly(2)
            elif "content-length" in headers:
                body += await self.reader.readexactly(int(headers["content-length"]))
            else:
                raise Bad("wrong", "a reply with neither Content-Length nor chunks", headers.get("x-server", ""), True)
        except (asyncio.IncompleteReadError, OSError) as e:
            got = len(body) + len(getattr(e, "partial", b""))
            raise Bad("truncated", f"{got} bytes, then {e!r}", headers.get("x-server", ""), True) from e
        return Reply(status, headers, bytes(body))


class Numbers:
    """Request ids that say which client and which request."""

    count = 0

    @classmethod
    def next(cls, who):
        cls.count += 1
        return f"acc-{who}-{cls.count}"


async def checked(connection, tally, who, method, path, body=None, chunks=None, expect=None, headers=(),
                  host="app.example", may_close=False):
    """One request whose reply is checked. Returns the reply, or None if it was counted as a failure.

    `expect` is the body to get; without it the request's own body is what comes back. `may_close`: the balancer has
    reason to close this connection after the reply, because its listener goes or the process stops."""
    request_id = Numbers.next(who)
    began = time.time()
    tally.requests[method] += 1
    server = ""
    try:
        if connection.writer is None:
            await connection.open()
        reply = await connection.exchange(
            method, path, [("X-Request-Id", request_id), *headers], body=body, chunks=chunks, host=host)
        server = reply.server
        sent = body if body is not None else b"".join(chunks or [])
        wanted = sent if expect is None else expect
        if reply.status != 200:
            raise Bad("status", f"status {reply.status}: {reply.body[:120]!r}", server)
        if not server:
            raise Bad("wrong", "no server named")
        if "x-method" in reply.headers:
            if reply.headers["x-method"] != method:
                raise Bad("wrong", f"the server saw {reply.headers['x-method']}", server, True)
            if int(reply.headers.get("x-body-crc", zlib.crc32(sent))) != zlib.crc32(sent):
                raise Bad("wrong", "the server saw another body", server, True)
        length = reply.headers.get("content-length")
        if length is not None and int(length) != len(wanted):
            raise Bad("wrong", f"Content-Length {length}, not {len(wanted)}", server, True)
        if method != "HEAD" and reply.body != wanted:
            raise Bad("wrong", f"another body: {len(reply.body)} bytes, not {len(wanted)}", server, True)
    except Bad as e:
        tally.failures.append(Failure(e.kind, request_id, method, path, began, time.time(), e.server or server,
                                      e.reply_begun, len(body or b"".join(chunks or [])), e.detail))
        connection.close()
        return None
    tally.slowest_s = max(tally.slowest_s, time.time() - began)
    if connection.must_close:
        if not may_close:
            tally.closed.append((time.time(), who, "announced"))
        connection.close()
    return reply


class Shopper:
    """A client that goes on asking for this and that over a kept-alive connection, now and then with a rest."""

    def __init__(self, number, where, tally, static_files, stop):
        self.who = f"shopper{number}"
        self.where, self.tally, self.files, self.stop = where, tally, static_files, stop
        self.chance = random.Random(number)

    async def run(self):
        connection = Connection(self.where)
        while not self.stop.is_set():
            for _ in range(self.chance.randint(5, 80)):
                if self.stop.is_set():
                    break
                await self.ask(connection)
                await asyncio.sleep(self.chance.uniform(0.01, 0.06))
            if self.chance.random() < 0.5:
                connection.close()
                connection = Connection(self.where)
            else:
                await asyncio.sleep(self.chance.uniform(0.5, 4))
                if connection.writer and connection.is_closed():
                    self.tally.closed.append((time.time(), self.who, "while idle"))
                    connection.close()
        connection.close()

    async def ask(self, connection):
        die = self.chance.random()
        size = self.chance.choice([0, 1, 200, 2000, 16384, 70000])
        if die < 0.40:
            seed = self.chance.randint(0, 9)
            await checked(connection, self.tally, self.who, "GET", f"/bytes/{size}/{seed}", expect=content(size, seed))
        elif die < 0.60:
            await checked(connection, self.tally, self.who, "POST", "/echo", body=self.chance.randbytes(size))
        elif die < 0.66:
            chunks = [self.chance.randbytes(self.chance.randint(1, 9000)) for _ in range(self.chance.randint(1, 6))]
            await checked(connection, self.tally, self.who, "POST", "/echo/chunked", chunks=chunks)
        elif die < 0.70:
            await checked(connection, self.tally, self.who, "PUT", "/echo/put", body=self.chance.randbytes(size))
        elif die < 0.74:
            await checked(connection, self.tally, self.who, "HEAD", f"/bytes/{size}/1", expect=content(size, 1))
        elif die < 0.80:
            await checked(connection, self.tally, self.who, "POST", "/checkout", body=b"order", host="secure.shop.example")
        elif die < 0.84:
            await checked(connection, self.tally, self.who, "POST", "/delay/150", body=b"slow order")
        elif die < 0.98:
            name = self.chance.choice(list(self.files))
            await checked(connection, self.tally, self.who, "GET", f"/static/{name}", expect=self.files[name])
        else:
            # Rate-limited by nginx: about a second in flight.
            name = "16k"
            await checked(connection, self.tally, self.who, "GET", f"/static/slow/{name}", expect=self.files[name])


class AppShopper(Shopper):
    """A shopper on a listener that leads to the apps alone."""

    async def ask(self, connection):
        size = self.chance.choice([0, 1, 200, 2000, 16384, 70000])
        if self.chance.random() < 0.5:
            await checked(connection, self.tally, self.who, "GET", f"/bytes/{size}/3", expect=content(size, 3))
        else:
            await checked(connection, self.tally, self.who, "POST", "/echo", body=self.chance.randbytes(size))


class IdleClient:
    """Opens a connection, asks once, and then only wakes now and then; its connection must still be there."""

    def __init__(self, number, where, tally):
        self.who = f"idle{number}"
        self.tally = tally
        self.connection = Connection(where)

    async def wake(self):
        """True if the old connection served another request."""
        if self.connection.writer is not None and self.connection.is_closed():
            self.tally.closed.append((time.time(), self.who, "while idle"))
            self.connection.close()
            return False
        reply = await checked(self.connection, self.tally, self.who, "GET", "/bytes/300/7", expect=content(300, 7))
        return reply is not None and self.connection.writer is not None


class Download:
    """A slow download that goes on until it is told to finish; every byte is checked."""

    def __init__(self, where, tally):
        self.tally, self.connection = tally, Connection(where)
        self.server = ""
        self.received = 0

    async def open(self, seconds=600):
        """Reads the head; `self.task` reads the rest and returns what is wrong, or an empty text."""
        await self.connection.open()
        self.tally.requests["GET"] += 1
        self.connection.writer.write(
            f"GET /stream/{seconds} HTTP/1.1\r\nHost: app.example\r\nX-Request-Id: {Numbers.next('download')}\r\n\r\n".encode())
        head = await asyncio.wait_for(self.connection.reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        lines = head.decode("latin-1").split("\r\n")
        if " 200 " not in lines[0]:
            raise RuntimeError(f"the download was answered {lines[0]!r}")
        self.server = next(line[10:].strip() for line in lines if line.lower().startswith("x-server:"))
        self.task = asyncio.create_task(self.read())
        return self

    async def read(self):
        body = bytearray()
        reader = self.connection.reader
        try:
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += await reader.readexactly(size)
                await reader.readexactly(2)
                self.received = len(body)
            await reader.readuntil(b"\r\n")
        except (asyncio.IncompleteReadError, OSError, ValueError) as e:
            return f"truncated after {len(body)} bytes: {e!r}"
        finally:
            self.connection.close()
        return check_stream(bytes(body))


def check_stream(body):
    """What is wrong with a /stream body; an empty text if nothing is."""
    data, _, last = body.rpartition(b"\n")
    words = last.decode("latin-1").split()
    if len(words) != 3 or words[0] != "end":
        return f"no last line after {len(body)} bytes"
    if len(data) != 2048 * int(words[1]):
        return f"{len(data)} bytes, not {2048 * int(words[1])}"
    if hashlib.sha256(data).hexdigest() != words[2]:
        return "another checksum"
    return ""


class WebSocket:
    """Sends a numbered message every 200 ms and wants it back unchanged and in order."""

    def __init__(self, where, tally):
        self.where, self.tally = where, tally
        self.server = ""
        self.echoed = 0
        self.stop = asyncio.Event()

    async def open(self):
        if isinstance(self.where, str):
            self.reader, self.writer = await asyncio.open_unix_connection(self.where)
        else:
            self.reader, self.writer = await asyncio.open_connection(*self.where)
        key = base64.b64encode(os.urandom(16)).decode()
        self.tally.requests["GET"] += 1
        self.writer.write(
            "GET /ws HTTP/1.1\r\nHost: app.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"X-Request-Id: {Numbers.next('websocket')}\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE_S)).decode("latin-1")
        wanted = base64.b64encode(hashlib.sha1((key + WEBSOCKET_GUID).encode()).digest()).decode()
        if " 101 " not in head.split("\r\n")[0] or wanted not in head:
            raise RuntimeError(f"the WebSocket was answered {head!r}")
        self.server = next(line[10:].strip() for line in head.split("\r\n") if line.lower().startswith("x-server:"))
        self.task = asyncio.create_task(self.talk())
        return self

    async def send(self, operation, data):
        mask = os.urandom(4)
        size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
        self.writer.write(bytes([0x80 | operation]) + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))
        await self.writer.drain()

    async def receive(self):
        first, size = await self.reader.readexactly(2)
        if size == 126:
            (size,) = struct.unpack(">H", await self.reader.readexactly(2))
        return first & 0x0F, await self.reader.readexactly(size)

    async def talk(self):
        """Returns what went wrong; an empty text if nothing did, the closing handshake included."""
        try:
            while not self.stop.is_set():
                data = f"message {self.echoed} ".encode() * random.randint(1, 60)
                await self.send(1, data)
                got = await asyncio.wait_for(self.receive(), PATIENCE_S)
                if got != (1, data):
                    return f"message {self.echoed} came back changed"
                self.echoed += 1
                await asyncio.sleep(0.2)
            await self.send(8, struct.pack(">H", 1000))
            operation, _ = await asyncio.wait_for(self.receive(), PATIENCE_S)
            return "" if operation == 8 else "no closing frame"
        except (asyncio.IncompleteReadError, asyncio.TimeoutError, OSError) as e:
            return f"broken after {self.echoed} messages: {e!r}"
        finally:
            self.writer.close()
