"""Users of everything but Redis and the streams: TLS by name, PROXY through every front, and DNS."""

import asyncio
import json
import random
import struct
import zlib

import proxy_header as proxy
from dns_client import A, Resolver, ask_over_tcp
from l4_scene import FRONTS, TARGETS
from tls_client import Tls, split_records

FAULTS = (OSError, EOFError, ValueError, KeyError, IndexError, UnicodeDecodeError, struct.error, asyncio.TimeoutError)
# What a client asks for, and the pool whose certificate proves where it came out.
NAMES = {"a.shop.example": "a", "b.shop.example": "b", "A.Shop.Example": "a", "x.shop.example": "wild",
         "y.z.shop.example": "wild", "shop.example": "other", "else.example": "other", None: "other"}


class Users:
    """Tasks that go on until told to stop, and note what went wrong."""

    def __init__(self, scene):
        self.scene = scene
        self.stop = asyncio.Event()
        self.done = 0
        self.faults = []
        self.tasks = []

    def go_on(self, step, seed, pause=(0.02, 0.12)):
        async def going_on():
            chance = random.Random(seed)
            while not self.stop.is_set():
                try:
                    await step(chance)
                    self.done += 1
                except Exception as e:
                    self.faults.append(f"{type(e).__name__} {e}")
                await asyncio.sleep(chance.uniform(*pause))

        self.tasks.append(asyncio.create_task(going_on()))

    async def end(self):
        self.stop.set()
        await asyncio.gather(*self.tasks)


class Wrong(Exception):
    """An answer came, but not the right one."""


# --- TLS --------------------------------------------------------------------------------------------------


PIECES = {
    "whole": lambda hello: [hello],
    "in three": lambda hello: [hello[:2], hello[2:100], hello[100:]],
    "byte by byte": lambda hello: [hello[i:i + 1] for i in range(24)] + [hello[24:]],
    "in records of 40": lambda hello: [split_records(hello, 40)],
    "in records of 100, each by itself": lambda hello: [split_records(hello, 100)[i:i + 105]
                                                        for i in range(0, len(split_records(hello, 100)), 105)],
}


class TlsUsers(Users):
    def start(self):
        one_record = not self.scene.balancer.starts_probing
        self.pieces = dict.fromkeys((how for how in PIECES if not (one_record and "records" in how)), 0)
        for i, name in enumerate(NAMES):
            self.tasks.append(asyncio.create_task(self.keep(name, i)))
        for i in range(3):
            self.go_on(self.once, i)

    async def ask(self, connection, wanted, chance):
        name = chance.choice(list(self.scene.files))
        fields, body = await connection.get(f"/static/{name}")
        if body != self.scene.files[name]:
            raise Wrong(f"{connection.name}: {len(body)} bytes, crc {zlib.crc32(body):08x}")
        if self.scene.pool_of.get(connection.certificate()) != wanted:
            raise Wrong(f"{connection.name}: the certificate of {self.scene.pool_of.get(connection.certificate())}")
        self.done += 1
        return fields["x-server"]

    async def keep(self, name, seed):
        """One connection from the first reload to the last."""
        chance = random.Random(seed)
        connection = Tls(self.scene.where("tls"), name)
        try:
            await connection.open()
            first = await self.ask(connection, NAMES[name], chance)
            while not self.stop.is_set():
                server = await self.ask(connection, NAMES[name], chance)
                if server != first:
                    raise Wrong(f"{server} instead of {first}")
                await asyncio.sleep(chance.uniform(0.1, 0.4))
        except Exception as e:
            self.faults.append(f"kept TLS connection to {name}: {type(e).__name__} {e}")
        connection.close()

    async def once(self, chance):
        name = chance.choice(list(NAMES))
        how = chance.choice(list(self.pieces))
        alpn = chance.choice([(), ("http/1.1",), ("h2", "http/1.1")])
        connection = Tls(self.scene.where("tls"), name, alpn, PIECES[how])
        try:
            await connection.open()
            await self.ask(connection, NAMES[name], chance)
            if connection.alpn_chosen() not in (None, "http/1.1") or (alpn and not connection.alpn_chosen()):
                raise Wrong(f"ALPN {connection.alpn_chosen()} of {alpn}")
            self.pieces[how] += 1
        except Exception as e:
            raise Wrong(f"{name}, hello {how}: {type(e).__name__} {e}") from e
        finally:
            connection.close()


# --- PROXY protocol ---------------------------------------------------------------------------------------


async def seen_by(where, source, target, preface=b"", pieces=None):
    """One request; returns (the client as the server at the end saw it, the client's own address, all fields)."""
    if target == "nginx_tls":
        connection = Tls(where, "a.shop.example", source=source, preface=preface)
        await connection.open()
        own = connection.writer.get_extra_info("sockname")
        fields, _ = await connection.get("/")
        connection.close()
        return fields["x-seen"], f"{own[0]}:{own[1]}", fields
    reader, writer = await asyncio.wait_for(asyncio.open_connection(*where, local_addr=(source, 0)), 15)
    try:
        own = writer.get_extra_info("sockname")
        path = "/headers" if target == "app" else "/"
        request = preface + f"GET {path} HTTP/1.1\r\nHost: who\r\nConnection: close\r\n\r\n".encode()
        for piece in (pieces(request) if pieces else [request]):
            writer.write(piece)
            await writer.drain()
            if pieces:
                await asyncio.sleep(0.001)
        data = await asyncio.wait_for(reader.read(-1), 15)
    finally:
        writer.close()
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    if " 200" not in lines[0]:
        raise Wrong(f"{lines[0]!r}")
    fields = dict((k.lower(), v.strip()) for k, _, v in (line.partition(":") for line in lines[1:]))
    if target == "app":
        # HTTP has no field for the client's port.
        return json.loads(body).get("x-forwarded-for"), own[0], fields
    return fields.get("x-seen"), f"{own[0]}:{own[1]}", fields


class ProxyUsers(Users):
    """The client's address through every front and every way behind it."""

    def targets(self):
        return [t for t in TARGETS if t != "nginx_tls" or "tls_passthrough" in self.scene.can]

    def start(self):
        self.through = {}
        for i in range(2):
            self.go_on(self.once, i)

    async def once(self, chance, front=None, target=None):
        front, target = front or chance.choice(list(FRONTS)), target or chance.choice(self.targets())
        source = f"127.0.0.{chance.randint(2, 250)}"
        where = ("127.0.0.1", self.scene.fronts[front][target])
        try:
            seen, own, fields = await seen_by(where, source, target)
        except Exception as e:
            raise Wrong(f"{front} → {target}: {type(e).__name__} {e}") from e
        if seen != own:
            raise Wrong(f"{front} → {target}: {seen} was seen, not {own}")
        if target.startswith("catch") and fields.get("x-version") != target[-2:]:
            raise Wrong(f"{target} got a header of version {fields.get('x-version')}")
        self.through[(front, target)] = self.through.get((front, target), 0) + 1


# A client without an address: the servers see none, or that of the connection they got.
NOBODY = "nobody"
HANDMADE = [
    # What the header says, the header, who is then the client (None: the connection's own address).
    ("v1 TCP4", proxy.v1("203.0.113.9", 4711), "203.0.113.9:4711"),
    ("v1 TCP6", proxy.v1("2001:db8::9", 4711), "2001:db8::9:4711"),
    ("v1 UNKNOWN", b"PROXY UNKNOWN\r\n", None),
    ("v1 UNKNOWN with words", b"PROXY UNKNOWN " + b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff " * 2 + b"65535 65535\r\n", None),
    ("v2 TCP4", proxy.v2("203.0.113.9", 4711), "203.0.113.9:4711"),
    ("v2 TCP6", proxy.v2("2001:db8::9", 4711), "2001:db8::9:4711"),
    ("v2 LOCAL", proxy.v2(command=proxy.LOCAL), None),
    ("v2 LOCAL with addresses", proxy.v2("203.0.113.9", 4711, command=proxy.LOCAL), None),
    ("v2 UNSPEC", proxy.v2(family=proxy.UNSPEC, block=b""), None),
    ("v2 unix", proxy.v2(family=proxy.UNIX, block=b"/run/a".ljust(108, b"\0") * 2), NOBODY),
    ("v2 with TLVs", proxy.v2("203.0.113.9", 4711, tlvs=proxy.tlv(proxy.ALPN, b"h2") + proxy.tlv(proxy.NOOP, b"\0" * 40)
                              + proxy.tlv(0xE0, b"own")), "203.0.113.9:4711"),
    ("v2 with CRC32C", proxy.v2("203.0.113.9", 4711, tlvs=proxy.tlv(proxy.AUTHORITY, b"a.example"), checksum=True), "203.0.113.9:4711"),
    ("v2 with 1 KiB of TLVs", proxy.v2("203.0.113.9", 4711, tlvs=proxy.tlv(proxy.NOOP, b"\0" * 1000)), "203.0.113.9:4711"),
]


# The specification wants all of them read; HAProxy 2.6, in evenkeel's place, does not read these.
TOO_MUCH_FOR_HAPROXY = ("v1 UNKNOWN with words", "v2 UNSPEC", "v2 unix")


async def handmade_headers(scene, is_evenkeel):
    """Faults of headers by hand, whole and byte by byte, that the fronts would never send."""
    faults, ways, headers = [], [None], HANDMADE
    if is_evenkeel:
        ways.append(lambda data: [data[i:i + 1] for i in range(min(len(data), 120))] + [data[120:]])
    else:
        headers = [each for each in HANDMADE if each[0] not in TOO_MUCH_FOR_HAPROXY]
    room = asyncio.Semaphore(16)

    async def one(what, header, wanted, pieces, target):
        async with room:
            try:
                seen, own, _ = await seen_by(scene.where(f"in_{target}"), "127.0.0.1", target, header, pieces)
            except Exception as e:
                faults.append(f"{what} to {target}{' in bytes' if pieces else ''}: {type(e).__name__} {e}")
                return
        good = wanted or own
        if target == "app" and wanted:
            good = wanted.rpartition(":")[0]
        if wanted == NOBODY:
            good = seen if seen in (None, ":", "LOCAL", "UNKNOWN") or seen.startswith("127.0.0.1") else own
        if seen != good:
            faults.append(f"{what} to {target}{' in bytes' if pieces else ''}: {seen}, not {good}")

    targets = ("app", "nginx_v1", "haproxy_v2", "catch_v1", "catch_v2")
    await asyncio.gather(*(one(*each, pieces, target) for each in headers for pieces in ways for target in targets))
    return faults


async def outsiders(scene):
    """Clients that do not come from the networks of `from`: they are themselves, and what they say is not believed."""
    faults = []
    for target in ("app", "nginx_v1", "haproxy_v2"):
        where = scene.where(f"in_{target}")
        try:
            seen, own, _ = await seen_by(where, "127.0.0.9", target)
            if seen != own:
                faults.append(f"{target}: {seen}, not {own}")
        except Exception as e:
            faults.append(f"{target}: {type(e).__name__} {e}")
        try:
            seen, _, _ = await seen_by(where, "127.0.0.9", target, proxy.v1("203.0.113.9", 4711))
            faults.append(f"{target}: a header from elsewhere was read; the client was {seen}")
        except (Wrong, *FAULTS):
            pass
    return faults


# --- DNS --------------------------------------------------------------------------------------------------


class DnsUsers(Users):
    """`over` is udp or tcp."""

    def __init__(self, scene, over):
        super().__init__(scene)
        self.over = over

    def start(self):
        if self.over == "tcp":
            return [self.go_on(self.once_over_tcp, i) for i in range(2)]
        self.tasks = [asyncio.create_task(self.keep(i)) for i in range(6)]
        for i in range(3):
            self.go_on(self.once, i)

    @staticmethod
    async def check(ask, chance):
        number = chance.randrange(50)
        got = await ask(f"h{number}.test", A)
        if got != [f"10.9.8.{number}"]:
            raise Wrong(f"h{number}.test is {got}")

    async def keep(self, seed):
        """One session with one server through everything."""
        chance = random.Random(seed)
        resolver = Resolver(self.scene.where("dns"), f"127.0.0.{seed + 2}")
        try:
            first = await resolver.server()
            while not self.stop.is_set():
                await self.check(resolver.ask, chance)
                if (now := await resolver.server()) != first:
                    raise Wrong(f"the session moved from {first} to {now}")
                self.done += 2
                await asyncio.sleep(chance.uniform(0.02, 0.2))
        except Exception as e:
            self.faults.append(f"kept session {seed}: {type(e).__name__} {e}")
        resolver.close()

    async def once(self, chance):
        resolver = Resolver(self.scene.where("dns"), f"127.0.0.{chance.randint(2, 250)}")
        try:
            for _ in range(chance.randint(1, 5)):
                await self.check(resolver.ask, chance)
        finally:
            resolver.close()

    async def once_over_tcp(self, chance):
        async def ask(name, kind):
            return await ask_over_tcp(self.scene.where("dns_tcp"), name, kind)

        await self.check(ask, chance)
