#!/usr/bin/env python3
"""A small app server for the acceptance run: HTTP/1.1 and WebSocket, standard library only.

    app.py NAME PORT

    ANY  /echo…            the request's body back, with its method and checksum in header fields
    GET  /bytes/SIZE/SEED  SIZE bytes that follow from SEED (`content`)
    GET  /work             a reply after 20 ms, times the factor that /_control set
    ANY  /delay/MS         a reply after MS milliseconds
    GET  /stream/SECONDS   2 KiB every 100 ms for so long, or until /_control?finish=1; the last line is the checksum
    GET  /ws               a WebSocket that sends back what it gets
    GET  /headers          the request's header fields as JSON
    GET  /healthz          ok
    GET  /_control?…       factor=N, finish=1, finish=0; meant for the run itself, on the server's own port

Every reply names the server in X-Server. SIGTERM is a graceful stop: no new connections, idle ones close, requests
that run are finished.
"""

import asyncio
import base64
import hashlib
import json
import signal
import struct
import sys
import zlib
from urllib.parse import parse_qs

WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def content(size, seed):
    """The bytes of /bytes/SIZE/SEED and of the static files."""
    return hashlib.shake_128(str(seed).encode()).digest(size)


async def read_body(reader, headers):
    if "chunked" in headers.get("transfer-encoding", ""):
        body = bytearray()
        while True:
            size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
            if size == 0:
                while await reader.readuntil(b"\r\n") != b"\r\n":
                    pass
                return bytes(body)
            body += await reader.readexactly(size)
            await reader.readexactly(2)
    return await reader.readexactly(int(headers.get("content-length", 0)))


class App:
    def __init__(self, name):
        self.name = name
        self.factor = 1.0
        self.finish = asyncio.Event()
        self.stopping = False
        self.idle = set()
        self.connections = set()

    async def serve(self, reader, writer):
        self.connections.add(writer)
        try:
            while not self.stopping:
                self.idle.add(writer)
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                finally:
                    self.idle.discard(writer)
                lines = head.decode("latin-1").split("\r\n")
                method, target, _version = lines[0].split(" ", 2)
                headers = {}
                for line in lines[1:]:
                    if line:
                        key, _, value = line.partition(":")
                        headers[key.strip().lower()] = value.strip()
                if headers.get("upgrade", "").lower() == "websocket":
                    await self.websocket(reader, writer, headers)
                    return
                body = await read_body(reader, headers)
                await self.answer(writer, method, target, headers, body)
                if headers.get("connection", "").lower() == "close":
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.LimitOverrunError, ValueError):
            pass
        finally:
            self.connections.discard(writer)
            writer.close()

    async def answer(self, writer, method, target, headers, body):
        path, _, query = target.partition("?")
        parts = path.split("/")
        kind = "application/octet-stream"
        if parts[1] in ("echo", "hash", "checkout"):
            reply = body
        elif parts[1] == "bytes":
            reply = content(int(parts[2]), parts[3])
        elif parts[1] == "work":
            await asyncio.sleep(0.02 * self.factor)
            reply = b"worked\n"
        elif parts[1] == "delay":
            await asyncio.sleep(int(parts[2]) / 1000)
            reply = body or b"delayed\n"
        elif parts[1] == "stream":
            await self.stream(writer, float(parts[2]))
            return
        elif parts[1] == "headers":
            reply, kind = json.dumps(headers).encode(), "application/json"
        elif parts[1] == "healthz":
            reply = b"ok\n"
        elif parts[1] == "_control":
            asked = parse_qs(query)
            self.factor = float(asked.get("factor", [self.factor])[0])
            if asked.get("finish") == ["1"]:
                self.finish.set()
            elif "finish" in asked:
                self.finish.clear()
            reply = b"done\n"
        else:
            self.reply(writer, "404 Not Found", method, body, b"not here\n", kind)
            return
        self.reply(writer, "200 OK", method, body, reply, kind)
        await writer.drain()

    def reply(self, writer, status, method, body, reply, kind):
        close = "Connection: close\r\n" if self.stopping else ""
        head = (
            f"HTTP/1.1 {status}\r\nX-Server: {self.name}\r\nX-Method: {method}\r\n"
            f"X-Body-Crc: {zlib.crc32(body)}\r\nContent-Type: {kind}\r\nContent-Length: {len(reply)}\r\n{close}\r\n"
        )
        # One write for head and body: a reply is sent whole or not at all, also if this process is killed.
        writer.write(head.encode() + (b"" if method == "HEAD" else reply))

    async def stream(self, writer, seconds):
        writer.write(
            f"HTTP/1.1 200 OK\r\nX-Server: {self.name}\r\nX-Method: GET\r\n"
            "Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        digest, count = hashlib.sha256(), 0
        while loop.time() < end and not self.finish.is_set():
            block = content(2048, f"{self.name}:{count}")
            digest.update(block)
            count += 1
            writer.write(b"%x\r\n%s\r\n" % (len(block), block))
            await writer.drain()
            await asyncio.sleep(0.1)
        last = f"\nend {count} {digest.hexdigest()}".encode()
        writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(last), last))
        await writer.drain()

    async def websocket(self, reader, writer, headers):
        accept = base64.b64encode(hashlib.sha1((headers["sec-websocket-key"] + WEBSOCKET_GUID).encode()).digest()).decode()
        writer.write(
            f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\nX-Server: {self.name}\r\n\r\n".encode()
        )
        while True:
            first, second = await reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack(">H", await reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", await reader.readexactly(8))
            mask = await reader.readexactly(4) if second & 0x80 else b"\0\0\0\0"
            data = bytes(b ^ mask[i % 4] for i, b in enumerate(await reader.readexactly(size)))
            operation = first & 0x0F
            answer = {8: 8, 9: 10}.get(operation, operation)
            length = bytes([size]) if size < 126 else b"\x7e" + struct.pack(">H", size)
            writer.write(bytes([0x80 | answer]) + length + data)
            await writer.drain()
            if operation == 8:
                return

    async def run(self, port):
        server = await asyncio.start_server(self.serve, "127.0.0.1", port, backlog=1024, limit=1 << 21)
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await stop.wait()
        self.stopping = True
        server.close()
        for writer in list(self.idle):
            writer.close()
        while self.connections:
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(App(sys.argv[1]).run(int(sys.argv[2])))
