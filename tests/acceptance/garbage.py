"""What nobody should send: malformed PROXY headers and ClientHellos, made by hand and by chance."""

import asyncio
import random
import socket
import struct
import time
from dataclasses import dataclass

import proxy_header as proxy
from tls_client import client_hello, split_records


def bad_proxy_headers():
    """(what, bytes); each must be closed, at once or at the deadline."""
    good = proxy.v2("203.0.113.9", 4711)
    unix = b"/run/a".ljust(108, b"\0") * 2
    return [
        ("nothing at all", b""),
        ("HTTP with no header", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("TLS with no header", client_hello("a.shop.example")),
        ("v1 cut short", b"PROXY TCP4 203.0.113.9 192.0.2."),
        ("v1 without words", b"PROXY\r\n"),
        ("v1 of an unknown family", b"PROXY UDP4 203.0.113.9 192.0.2.80 1 2\r\n"),
        ("v1 without ports", b"PROXY TCP4 203.0.113.9 192.0.2.80\r\n"),
        ("v1 with a word too many", b"PROXY TCP4 203.0.113.9 192.0.2.80 1 2 3\r\n"),
        ("v1 with two spaces", b"PROXY  TCP4 203.0.113.9 192.0.2.80 1 2\r\n"),
        ("v1 in lower case", b"proxy tcp4 203.0.113.9 192.0.2.80 1 2\r\n"),
        ("v1 with a port beyond 65535", b"PROXY TCP4 203.0.113.9 192.0.2.80 65536 2\r\n"),
        ("v1 with a negative port", b"PROXY TCP4 203.0.113.9 192.0.2.80 -1 2\r\n"),
        ("v1 with a port in words", b"PROXY TCP4 203.0.113.9 192.0.2.80 http 2\r\n"),
        ("v1 with an address too short", b"PROXY TCP4 203.0.113 192.0.2.80 1 2\r\n"),
        ("v1 with an address part of 256", b"PROXY TCP4 203.0.113.256 192.0.2.80 1 2\r\n"),
        ("v1 with a host name", b"PROXY TCP4 localhost 192.0.2.80 1 2\r\n"),
        ("v1 TCP4 with IPv6", b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n"),
        ("v1 TCP6 with IPv4", b"PROXY TCP6 203.0.113.9 192.0.2.80 1 2\r\n"),
        ("v1 ended by LF alone", b"PROXY TCP4 203.0.113.9 192.0.2.80 1 2\n" + b"x" * 200),
        ("v1 ended by CR alone", b"PROXY TCP4 203.0.113.9 192.0.2.80 1 2\r" + b"x" * 200),
        ("v1 with a NUL", b"PROXY TCP4 203.0.113.9\0 192.0.2.80 1 2\r\n"),
        ("v1 without an end", b"PROXY TCP4 " + b"1" * 5000),
        ("v1 UNKNOWN without an end", b"PROXY UNKNOWN " + b"f" * 5000),
        ("v2 cut in the signature", proxy.SIGNATURE[:7]),
        ("v2 signature alone", proxy.SIGNATURE),
        ("v2 cut in the addresses", good[:20]),
        ("v2 with a signature that is off by one bit", good[:11] + bytes([good[11] ^ 1]) + good[12:]),
        ("v2 of version 1", proxy.v2("203.0.113.9", 1, command=0x11)),
        ("v2 of version 3", proxy.v2("203.0.113.9", 1, command=0x31)),
        ("v2 with an unknown command", proxy.v2("203.0.113.9", 1, command=0x22)),
        ("v2 of an unknown family", proxy.v2(family=0x41, block=b"\0" * 12)),
        ("v2 of an unknown transport", proxy.v2(family=0x13, block=b"\0" * 12)),
        ("v2 with no room for the addresses", proxy.v2(family=proxy.TCP4, block=b"\0" * 11)),
        ("v2 TCP6 with IPv4's length", proxy.v2(family=proxy.TCP6, block=b"\0" * 12)),
        ("v2 unix cut short", proxy.v2(family=proxy.UNIX, block=unix[:100])),
        ("v2 that promises more than comes", proxy.v2("203.0.113.9", 1, length=4000)),
        ("v2 of 65535 bytes", proxy.v2("203.0.113.9", 1, tlvs=b"\x04\xff\xf0" + b"x" * 65520)[:16] + b"x" * 300),
        ("v2 with a TLV cut short", proxy.v2("203.0.113.9", 1, tlvs=b"\x05\x00\x10abc")),
        ("v2 with half a TLV head", proxy.v2("203.0.113.9", 1, tlvs=b"\x05\x00")),
        ("v2 with a wrong CRC32C", proxy.v2("203.0.113.9", 1, checksum=b"\xde\xad\xbe\xef")),
        ("v2 with a CRC32C of two bytes", proxy.v2("203.0.113.9", 1, tlvs=proxy.tlv(proxy.CRC32C, b"ab"))),
    ]


def hello(extensions=b"", version=b"\x03\x03", suites=b"\x13\x01", session=b"", length=None, kind=1, record=None, record_version=b"\x03\x01"):
    """A ClientHello from its parts; `length` and `record` put other lengths in place of the right ones."""
    body = version + b"r" * 32 + bytes([len(session)]) + session + struct.pack(">H", len(suites)) + suites + b"\x01\0"
    body += struct.pack(">H", len(extensions)) + extensions
    size = len(body) if length is None else length
    message = bytes([kind]) + struct.pack(">I", size)[1:] + body
    return b"\x16" + record_version + struct.pack(">H", len(message) if record is None else record) + message


def extension(kind, data, length=None):
    return struct.pack(">HH", kind, len(data) if length is None else length) + data


def sni(*names, list_length=None):
    entries = b"".join(b"\0" + struct.pack(">H", len(n)) + n for n in names)
    return extension(0, struct.pack(">H", len(entries) if list_length is None else list_length) + entries)


def bad_hellos(known):
    """(what, bytes). `known` is a name that has a route: none of these may reach it."""
    name = known.encode()
    whole = client_hello(known)
    return [
        ("nothing at all", b""),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: " + name + b"\r\n\r\n"),
        ("SSH", b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"),
        ("zeros", b"\0" * 600),
        ("an SSLv2 hello", b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + b"\x01\x00\x80" * 7 + b"c" * 16),
        ("an alert", b"\x15\x03\x01\x00\x02\x02\x28"),
        ("application data", b"\x17\x03\x03\x00\x10" + b"x" * 16),
        ("a record of length 0", b"\x16\x03\x01\x00\x00" * 50),
        ("a record longer than TLS allows", b"\x16\x03\x01\xff\xff" + b"x" * 5000),
        ("a record of SSL 2.1", b"\x16\x02\x01" + whole[3:]),
        ("a ServerHello", hello(sni(name), kind=2)),
        ("a ClientHello of length 0", b"\x16\x03\x01\x00\x04\x01\0\0\0"),
        ("a ClientHello cut in the record head", whole[:3]),
        ("a ClientHello cut in the middle", whole[:len(whole) // 2]),
        ("a ClientHello that promises 16 MiB", hello(sni(name), length=0xFFFFFF)),
        ("a ClientHello shorter than its content", hello(sni(name), length=20)),
        ("a session id beyond 32 bytes", hello(sni(name), session=b"s" * 200)),
        ("no cipher suites", hello(sni(name), suites=b"")),
        ("an odd length of cipher suites", hello(sni(name), suites=b"\x13\x01\x13")),
        ("an extension beyond the end", hello(extension(0, b"\0\0", length=5000))),
        ("half an extension's head", hello(sni(name) + b"\0\x0a\0")),
        ("an SNI list beyond its extension", hello(sni(name, list_length=900))),
        ("an empty SNI list", hello(sni())),
        ("an empty name", hello(sni(b""))),
        ("two names", hello(sni(b"other.example", name))),
        ("SNI twice", hello(sni(b"other.example") + sni(name))),
        ("a name with a NUL", hello(sni(name + b"\0.other.example"))),
        ("a name that is no text", hello(sni(b"\xff\xfe\xfd"))),
        ("a name of 60000 bytes", split_records(hello(sni(b"a" * 60_000), record=0), 16_000)),
        ("a name nobody knows", client_hello("unknown.example")),
        ("no name", client_hello(None)),
        ("a hello in records of one byte each, cut", split_records(whole, 1)[:300]),
        ("64 KiB of hello", split_records(hello(sni(name) + extension(0xABCD, b"z" * 65_000), record=0), 16_000)),
    ]


def mutated(samples, count, seed):
    """Good ones with something changed: bits, bytes, lengths, pieces lost, doubled or put in."""
    chance = random.Random(seed)
    for number in range(count):
        data = bytearray(chance.choice(samples))
        for _ in range(chance.choice([1, 1, 1, 2, 4, 12])):
            at = chance.randrange(len(data)) if data else 0
            die = chance.random()
            if die < 0.3 and data:
                data[at] ^= 1 << chance.randrange(8)
            elif die < 0.5 and data:
                data[at] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, 13, 10, 32, chance.randrange(256)])
            elif die < 0.65:
                del data[at:at + chance.randint(1, 30)]
            elif die < 0.8:
                data[at:at] = chance.randbytes(chance.randint(1, 30))
            elif die < 0.9:
                data[at:at] = data[at:at + chance.randint(1, 60)]
            else:
                del data[at:]
        yield f"mutation {number}", bytes(data)


def good_proxy_headers():
    return [proxy.v1("203.0.113.9", 4711), proxy.v1("2001:db8::9", 4711), b"PROXY UNKNOWN\r\n",
            b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
            proxy.v2("203.0.113.9", 4711), proxy.v2("2001:db8::9", 4711), proxy.v2(command=proxy.LOCAL),
            proxy.v2("203.0.113.9", 4711, tlvs=proxy.tlv(proxy.AUTHORITY, b"a.example") + proxy.tlv(proxy.NOOP, b"\0" * 9)),
            proxy.v2("203.0.113.9", 4711, tlvs=proxy.tlv(proxy.UNIQUE_ID, b"42"), checksum=True),
            proxy.v2(family=proxy.UNIX, block=b"/run/a".ljust(108, b"\0") * 2)]


@dataclass
class Outcome:
    what: str
    closed_after_s: float  # -1: not within the patience
    answered: bytes


async def throw(where, what, data, patience_s, source="127.0.0.1", manner="all at once"):
    """Sends it and waits to be closed. `manner`: all at once; with a nudge, which tells whether it waits for a server by
    sending more; trickled, a byte each 50 ms; then half-closed."""
    began = time.monotonic()
    answered = b""
    try:
        reader, writer = await asyncio.open_connection(*where, local_addr=(source, 0))
    except OSError:
        return Outcome(what, 0.0, b"")

    async def trickle():
        for byte in data or b"x" * 1000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)

    trickling = None
    try:
        if manner == "trickled":
            trickling = asyncio.create_task(trickle())
        else:
            writer.write(data)
            if manner == "then half-closed":
                writer.write_eof()
        while True:
            got = await asyncio.wait_for(reader.read(4096), max(began + patience_s - time.monotonic(), 0.01))
            if not got:
                break
            answered += got[:100]
            if manner in ("all at once", "with a nudge"):
                # A server answers: this one was good enough to be passed on, and is not ours to judge.
                break
        closed = time.monotonic() - began
    except (asyncio.TimeoutError, TimeoutError):
        closed = -1.0
        if manner == "with a nudge":
            answered = await nudge(reader, writer)
    except OSError:
        closed = time.monotonic() - began
    finally:
        if trickling:
            trickling.cancel()
            await asyncio.gather(trickling, return_exceptions=True)
        writer.close()
    return Outcome(what, closed, answered)


async def nudge(reader, writer):
    """What a server behind answers to a byte more: it was passed on, and nobody has to close it."""
    try:
        writer.write(b"?")
        return await asyncio.wait_for(reader.read(100), 1)
    except (asyncio.TimeoutError, TimeoutError, OSError):
        return b""


async def throw_all(where, items, patience_s, manner="all at once", at_once=100):
    room = asyncio.Semaphore(at_once)

    async def one(what, data):
        async with room:
            return await throw(where, what, data, patience_s, manner=manner)

    return await asyncio.gather(*(one(*item) for item in items))


def reset(where, data):
    """Sends it and resets the connection at once."""
    with socket.create_connection(where, timeout=5) as s:
        s.sendall(data)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
