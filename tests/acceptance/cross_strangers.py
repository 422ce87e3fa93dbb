"""Clients that do what none should: they may be refused, cut off or ignored, and nobody else may notice."""

import asyncio
import os
import socket
import struct

from h2_client import CANCEL, END_HEADERS, END_STREAM, HEADERS, PREFACE, RST_STREAM, SETTINGS, frame, head

RESET = struct.pack("ii", 1, 0)
# What no server may see: each is refused, or its connection ended.
MALFORMED = [
    b"GET / HTTP/1.1\r\nX-Request-Id: never-1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nX-Request-Id: never-2\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nX-Request-Id: never-3\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nX-Request-Id: never-4\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id : never-5\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n X-Request-Id: folded\r\nX-Request-Id: never-6\r\n\r\n",
    b"GET / HTTP/3.0\r\nHost: a\r\nX-Request-Id: never-7\r\n\r\n",
    b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\nX-Request-Id: never-8\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\nX-Request-Id: never-9\n\n",
    b"GET a b HTTP/1.1\r\nHost: a\r\nX-Request-Id: never-10\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nX-Request-Id: never-11\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64,
    b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: never-12\r\nX-Big: " + b"x" * 70_000 + b"\r\n\r\n",
]


async def connect(where):
    return await asyncio.wait_for(asyncio.open_connection(*where, limit=1 << 20), 10)


async def to_the_end(reader, seconds=8):
    """Whatever comes, until it ends or stops."""
    try:
        return await asyncio.wait_for(reader.read(-1), seconds)
    except (OSError, asyncio.TimeoutError):
        return b""


def reset(writer):
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


async def half_close(scene, chance):
    for _ in range(4):
        reader, writer = await connect(scene.where("web"))
        writer.write(b"GET /bytes/2000/1 HTTP/1.1\r\nHost: a\r\n\r\n" * chance.randint(1, 3))
        writer.write_eof()
        await to_the_end(reader, 3)
        writer.close()


async def slow_head(scene, chance):
    reader, writer = await connect(scene.where("web"))
    for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "[:chance.randint(5, 34)]:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.02)
    if chance.random() < 0.5:
        reset(writer)
    else:
        await to_the_end(reader)
        writer.close()


async def reset_within_response(scene, chance):
    for _ in range(5):
        reader, writer = await connect(scene.where("web"))
        writer.write(b"GET /bytes/5000000/1 HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.wait_for(reader.read(chance.choice([1, 1000, 100_000])), 10)
        reset(writer)


async def reset_within_upload(scene, chance):
    for _ in range(4):
        _, writer = await connect(scene.where("web"))
        writer.write(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n" + b"x" * chance.randint(0, 200_000))
        await asyncio.sleep(chance.uniform(0, 0.05))
        reset(writer)


async def reads_nothing(scene, chance):
    reader, writer = await connect(scene.where("web"))
    writer.transport.pause_reading()
    writer.write(b"GET /bytes/3000000/1 HTTP/1.1\r\nHost: a\r\n\r\n")
    await asyncio.sleep(chance.uniform(0.2, 0.8))
    reset(writer)


async def malformed(scene, chance):
    for data in chance.sample(MALFORMED, 5):
        reader, writer = await connect(scene.where("web"))
        writer.write(data)
        answer = await to_the_end(reader, 5)
        writer.close()
        if answer and not answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5", b"HTTP/1.0 4", b"HTTP/1.0 5")):
            scene.notebook.wrong.append(f"{data[:40]!r} was answered {answer[:60]!r}")


async def rapid_reset(scene, chance):
    reader, writer = await connect(scene.where("web"))
    writer.write(PREFACE + frame(SETTINGS, 0, 0))
    reading = asyncio.create_task(to_the_end(reader, 10))
    try:
        for stream in range(1, 2 * chance.randint(200, 1500), 2):
            writer.write(frame(HEADERS, END_HEADERS | END_STREAM, stream, head("GET", "/bytes/200/1", "a"))
                         + frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL)))
            if stream % 100 == 1:
                await writer.drain()
    except OSError:
        pass
    reset(writer)
    await reading


async def broken_h2(scene, chance):
    reader, writer = await connect(scene.where("web"))
    writer.write(PREFACE + frame(SETTINGS, 0, 0) + chance.choice([
        frame(HEADERS, END_HEADERS | END_STREAM, 2, head("GET", "/", "a")), frame(SETTINGS, 0, 1), os.urandom(64),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, chance.randbytes(40)), frame(RST_STREAM, 0, 7, b"\0\0\0\0")]))
    await to_the_end(reader, 3)
    writer.close()


async def not_tls(scene, chance):
    for _ in range(3):
        reader, writer = await connect(scene.where("tls"))
        writer.write(chance.choice([b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", chance.randbytes(200), b"\x16\x03\x01\x40\x00"]))
        await asyncio.sleep(0.05)
        writer.close()


async def udp_strays(scene, chance):
    """Datagrams that nobody answers, empty ones among them, each from a port of its own."""
    for _ in range(40):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(chance.randbytes(chance.choice([0, 1, 300, 8000])), scene.where("udp"))
    await asyncio.sleep(0)


async def tcp_strays(scene, chance):
    for _ in range(5):
        _, writer = await connect(scene.where("tcp"))
        writer.write(chance.choice([b"", b"no line", b"\n", b"1 2 3\n" + b"x" * 1000]))
        await asyncio.sleep(chance.uniform(0, 0.05))
        reset(writer)


async def silent(scene, chance):
    """Connections that say nothing, in number, and leave."""
    opened = [await connect(scene.where(chance.choice(["web", "tls", "tcp"]))) for _ in range(60)]
    await asyncio.sleep(chance.uniform(0.1, 0.6))
    for _, writer in opened:
        reset(writer)


STRANGERS = {f.__name__: f for f in (half_close, slow_head, reset_within_response, reset_within_upload, reads_nothing, malformed,
                                     rapid_reset, broken_h2, not_tls, udp_strays, tcp_strays, silent)}


async def visit(name, scene, chance):
    """They may be refused or cut off at any time."""
    try:
        await STRANGERS[name](scene, chance)
    except (OSError, EOFError, asyncio.TimeoutError):
        pass
