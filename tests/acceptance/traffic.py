"""Clients of every protocol that do nothing wrong and check every answer: HTTP/1.1 kept and anew, HTTP/1.0, TLS, HTTP/2
in clear and over TLS, WebSocket, TCP and UDP, downloads and slow replies."""

import asyncio
import logging
import random
import socket
import ssl
import time

from app import content
from clients import PATIENCE_S, Bad, Connection, Download, Numbers, Tally, WebSocket, checked
from h2_client import Client, Unprocessed
from l4_users import Users, Wrong

# It warns of each connection over TLS that was cut while something was to be written.
logging.getLogger("asyncio").setLevel(logging.ERROR)
SIZES = [0, 1, 200, 2000, 16384, 70000]
# So long after a process has been told to stop, idle connections may be found closed.
PARTING_S = 3


def began():
    return [("X-Began", f"{time.monotonic():.6f}")]


def trusting(alpn=()):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


class TlsConnection(Connection):
    """HTTP/1.1 over TLS."""

    async def open(self):
        opening = asyncio.open_connection(*self.where, ssl=trusting(["http/1.1"]), server_hostname="app.example", limit=1 << 21)
        try:
            self.reader, self.writer = await asyncio.wait_for(opening, PATIENCE_S)
        except OSError as e:
            raise Bad("refused", f"connect: {e!r}") from e
        return self


class Traffic(Users):
    """`scene.where(listener)` for `web`, `tls`, `tcp` and `udp`. `rest()` waits until nothing is under way."""

    def __init__(self, scene, pace=1.0):
        super().__init__(scene)
        self.tally, self.pace = Tally(), pace
        self.gate = asyncio.Event()
        self.gate.set()
        self.busy = 0
        self.by_kind = {}
        self.repeated = 0
        self.parting = 0.0
        # When this run itself was held up last, and for how long: a late answer is then nobody's fault but the machine's.
        self.stood_still = (0.0, 0.0)

    # What may be excused, and what may not.

    def may_close(self):
        """A process stops, or has just been told to: it announces the end of connections, and closes idle ones."""
        return time.monotonic() < self.parting

    def parts(self, seconds=PARTING_S):
        self.parting = max(self.parting, time.monotonic() + seconds)

    def go(self, kind, step, seed, pause):
        self.by_kind[kind] = 0

        async def gated(chance):
            await self.gate.wait()
            if self.stop.is_set():
                return
            self.busy += 1
            try:
                await step(chance)
                self.by_kind[kind] += 1
            except Exception as e:
                raise Wrong(f"{kind}: {e!r}") from e
            finally:
                self.busy -= 1

        self.go_on(gated, f"{seed}-{kind}", (pause[0] / self.pace, pause[1] / self.pace))

    async def rest(self, deadline_s=PATIENCE_S + 5):
        """Nothing new begins; returns when what was under way has ended."""
        self.gate.clear()
        end = time.monotonic() + deadline_s
        while self.busy:
            if time.monotonic() > end:
                raise TimeoutError(f"{self.busy} exchanges of clients do not end")
            await asyncio.sleep(0.005)

    def resume(self):
        self.gate.set()

    async def end(self):
        self.gate.set()
        await super().end()

    async def watch_itself(self):
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.05)
            late = time.monotonic() - began - 0.05
            if late > 0.3:
                self.stood_still = (time.monotonic(), late)

    def start(self, seed=1):
        self.watch = asyncio.create_task(self.watch_itself())
        web, tls = self.scene.where("web"), self.scene.where("tls")
        for number in range(3):
            self.go(f"HTTP/1.1 kept {number}", self.kept(Connection(web)), seed, (0.01, 0.06))
        self.go("HTTP/1.1 anew", self.anew, seed, (0.02, 0.08))
        self.go("HTTP/1.0", self.http_1_0, seed, (0.02, 0.1))
        self.go("TLS kept", self.kept(TlsConnection(tls)), seed, (0.02, 0.08))
        self.go("TLS anew", self.tls_anew, seed, (0.05, 0.2))
        self.go("HTTP/2", self.h2(Client(web)), seed, (0.02, 0.1))
        self.go("HTTP/2 over TLS", self.h2(Client(tls, trusting(["h2"]))), seed, (0.02, 0.1))
        self.go("slow POST", self.slow_post, seed, (0.02, 0.1))
        self.go("download", self.download, seed, (0.02, 0.1))
        self.go("WebSocket", self.websocket, seed, (0.02, 0.1))
        self.go("TCP", self.tcp, seed, (0.02, 0.1))
        self.go("UDP anew", self.udp_anew, seed, (0.02, 0.08))
        self.go("UDP kept", self.udp_kept(), seed, (0.02, 0.08))

    # HTTP/1.1.

    async def ask(self, connection, who, method, path, **how):
        """One request, checked. What was idempotent and went out on a kept connection that a stopping process had closed
        is repeated on a new one, as RFC 9110 section 9.2.2 has clients do."""
        reused = connection.writer is not None and not connection.is_closed()
        if not reused:
            connection.close()
        reply = await checked(connection, self.tally, who, method, path, headers=began(), may_close=self.may_close(), **how)
        if reply is None:
            failure = self.tally.failures.pop()
            if not (reused and method != "POST" and failure.kind == "reset" and not failure.reply_begun and self.may_close()):
                raise Wrong(f"{failure.kind}, {failure.detail} ({method} {path}, {failure.request_id}, server {failure.server!r}, "
                            f"{'kept' if reused else 'new'} connection, {failure.ended - failure.began:.2f} s)")
            self.repeated += 1
            return await self.ask(connection, who, method, path, **how)
        if self.tally.closed:
            closed = self.tally.closed.pop()
            if not self.may_close():
                raise Wrong(f"a kept connection was closed, {closed[2]}, without a stop")
        return reply

    def kept(self, connection):
        who = f"kept{id(connection)}"

        async def step(chance):
            size, seed = chance.choice(SIZES), chance.randint(0, 9)
            method = chance.choice(["GET", "GET", "GET", "HEAD", "PUT"])
            if method == "PUT":
                await self.ask(connection, who, "PUT", "/echo/put", body=chance.randbytes(size))
            else:
                await self.ask(connection, who, method, f"/bytes/{size}/{seed}", expect=content(size, seed))

        return step

    async def anew(self, chance):
        connection = Connection(self.scene.where("web"))
        try:
            if chance.random() < 0.6:
                await self.ask(connection, "anew", "POST", "/echo", body=chance.randbytes(chance.choice(SIZES)))
            elif chance.random() < 0.5:
                chunks = [chance.randbytes(chance.randint(1, 9000)) for _ in range(chance.randint(1, 6))]
                await self.ask(connection, "anew", "POST", "/echo/chunked", chunks=chunks)
            else:
                await self.ask(connection, "anew", "GET", "/bytes/300/1", expect=content(300, 1))
        finally:
            connection.close()

    async def tls_anew(self, chance):
        connection = TlsConnection(self.scene.where("tls"))
        try:
            await self.ask(connection, "tls", "POST", "/echo", body=chance.randbytes(chance.choice(SIZES)))
        finally:
            connection.close()

    async def slow_post(self, chance):
        """A reply that takes its time, so that something is in flight at every moment."""
        connection = Connection(self.scene.where("web"))
        try:
            await self.ask(connection, "slow", "POST", f"/delay/{chance.randint(100, 500)}", body=b"slow order")
        finally:
            connection.close()

    async def download(self, chance):
        download = await Download(self.scene.where("web"), self.tally).open(chance.choice([0.2, 0.5]))
        fault = await download.task
        if fault:
            raise Wrong(fault)

    async def http_1_0(self, chance):
        size, seed, identity = chance.choice(SIZES), chance.randint(0, 9), Numbers.next("http10")
        body = chance.randbytes(size) if chance.random() < 0.3 else None
        line = f"POST /echo HTTP/1.0\r\nContent-Length: {size}" if body is not None else f"GET /bytes/{size}/{seed} HTTP/1.0"
        ((_, at),) = began()
        reader, writer = await asyncio.wait_for(asyncio.open_connection(*self.scene.where("web")), PATIENCE_S)
        try:
            writer.write(f"{line}\r\nHost: app.example\r\nX-Request-Id: {identity}\r\nX-Began: {at}\r\n\r\n".encode() + (body or b""))
            data = await asyncio.wait_for(reader.read(-1), PATIENCE_S)
        finally:
            writer.close()
        head, _, got = data.partition(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0] + b" ":
            raise Wrong(f"{identity}: {head[:80]!r}")
        if got != (content(size, seed) if body is None else body):
            raise Wrong(f"{identity}: another body: {len(got)} bytes of {size}")

    # HTTP/2.

    def h2(self, client):
        who = f"h2-{id(client)}"

        async def one(chance):
            size, seed, identity = chance.choice(SIZES), chance.randint(0, 9), Numbers.next(who)
            body = chance.randbytes(size) if chance.random() < 0.4 else b""
            method, path = ("POST", "/echo") if body else ("GET", f"/bytes/{size}/{seed}")
            expected = body or content(size, seed)
            for _ in range(4):
                try:
                    status, got = await client.request(method, path, [("x-request-id", identity), *began()], body)
                except Unprocessed:
                    continue
                except Bad as e:
                    # As with HTTP/1.1: an idle connection of a process that stops.
                    if e.kind == "reset" and method != "POST" and self.may_close():
                        self.repeated += 1
                        continue
                    raise Wrong(f"{e.kind}, {e.detail} ({method} {path}, {identity})") from e
                if status != 200 or got != expected:
                    raise Wrong(f"status {status}, {len(got)} bytes of {len(expected)} ({method} {path}, {identity})")
                return
            raise Wrong(f"not processed four times over ({method} {path}, {identity})")

        async def step(chance):
            # Each has chance of its own, whatever the order they come to it in.
            seeds = [chance.random() for _ in range(chance.randint(1, 5))]
            faults = await asyncio.gather(*(one(random.Random(s)) for s in seeds), return_exceptions=True)
            for fault in filter(None, faults):
                raise fault

        return step

    # WebSocket, TCP, UDP.

    async def websocket(self, chance, seconds=(0.2, 0.6)):
        talker = await WebSocket(self.scene.where("web"), self.tally).open()
        await asyncio.sleep(chance.uniform(*seconds))
        talker.stop.set()
        fault = await talker.task
        if fault:
            raise Wrong(fault)

    async def tcp(self, chance):
        identity, data = Numbers.next("tcp"), chance.randbytes(chance.choice([0, 1, 5000, 200_000]))
        reader, writer = await asyncio.wait_for(asyncio.open_connection(*self.scene.where("tcp")), PATIENCE_S)
        try:
            writer.write(f"{time.monotonic():.6f} {identity}\n".encode() + data)
            writer.write_eof()
            got = await asyncio.wait_for(reader.read(-1), PATIENCE_S)
        finally:
            writer.close()
        server, _, back = got.partition(b"\n")
        if back != data or not server:
            raise Wrong(f"{identity}: {len(back)} bytes of {len(data)} from {server!r}")

    async def exchange_datagram(self, sock, chance, at):
        loop, identity, began = asyncio.get_running_loop(), Numbers.next("udp"), time.monotonic()
        data = f"{at} {identity} ".encode() + chance.randbytes(chance.choice([0, 10, 500, 1400]))
        sock.send(data)
        try:
            got = await asyncio.wait_for(loop.sock_recv(sock, 65536), 3)
        except asyncio.TimeoutError:
            came = "came to a server" if identity in self.scene.notebook.datagrams else "came to none"
            at, late = self.stood_still
            still = f"; the run itself stood still for {late:.1f} s" if at > began else ""
            raise Wrong(f"{identity}: no answer to a datagram of {len(data)} bytes, which {came}{still}") from None
        if got.partition(b"|")[2] != data:
            raise Wrong(f"{identity}: another answer: {got[:60]!r}")

    def socket(self):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.connect(self.scene.where("udp"))
        return sock

    async def udp_anew(self, chance):
        sock = self.socket()
        try:
            await self.exchange_datagram(sock, chance, f"{time.monotonic():.6f}")
        finally:
            sock.close()

    def udp_kept(self):
        sock = self.socket()

        async def step(chance):
            # Whose session it is was decided earlier, so the time says nothing.
            await self.exchange_datagram(sock, chance, "-")

        return step
