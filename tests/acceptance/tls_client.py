"""A TLS client that keeps the bytes of TLS in its own hands, so that the ClientHello can be sent in any pieces."""

import asyncio
import hashlib
import ssl
import struct

PATIENCE_S = 15
HANDSHAKE = 22


class Wrong(Exception):
    """An answer came, but not the right one."""


def context(alpn=()):
    made = ssl.create_default_context()
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if alpn:
        made.set_alpn_protocols(list(alpn))
    return made


def client_hello(name, alpn=()):
    """The first message of a client that asks for `name`, None for no name."""
    out = ssl.MemoryBIO()
    tls = context(alpn).wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


def split_records(hello, size):
    """The same handshake message in TLS records of `size` bytes each, as RFC 8446 section 5.1 allows."""
    version, message = hello[1:3], hello[5:]
    return b"".join(bytes([HANDSHAKE]) + version + struct.pack(">H", len(part)) + part
                    for part in (message[i:i + size] for i in range(0, len(message), size)))


class Tls:
    """One connection. `pieces` turns the ClientHello into what is sent, piece by piece."""

    def __init__(self, where, name, alpn=(), pieces=None, source=None, preface=b""):
        self.where, self.name, self.alpn, self.source = where, name, alpn, source
        self.pieces = pieces or (lambda hello: [hello])
        self.preface = preface
        self.writer = None

    async def open(self):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context(self.alpn).wrap_bio(self.incoming, self.outgoing, server_hostname=self.name)
        local = (self.source, 0) if self.source else None
        self.reader, self.writer = await asyncio.wait_for(asyncio.open_connection(*self.where, local_addr=local), PATIENCE_S)
        self.writer.write(self.preface)
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        for piece in self.pieces(self.outgoing.read()):
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0.002)
        await asyncio.wait_for(self.until_done(self.tls.do_handshake), PATIENCE_S)
        return self

    async def until_done(self, operation, *arguments):
        while True:
            try:
                done = operation(*arguments)
                self.flush()
                return done
            except ssl.SSLWantReadError:
                self.flush()
                data = await self.reader.read(1 << 16)
                if not data:
                    raise EOFError("closed")
                self.incoming.write(data)

    def flush(self):
        if data := self.outgoing.read():
            self.writer.write(data)

    def certificate(self):
        """Its SHA-256, which the run knows for every certificate it made."""
        return hashlib.sha256(self.tls.getpeercert(binary_form=True)).hexdigest()

    def alpn_chosen(self):
        return self.tls.selected_alpn_protocol()

    async def get(self, path):
        """(fields, body) of one request over this connection."""
        return await asyncio.wait_for(self._get(path), PATIENCE_S)

    async def _get(self, path):
        self.tls.write(f"GET {path} HTTP/1.1\r\nHost: {self.name or 'none'}\r\n\r\n".encode())
        self.flush()
        data = b""
        while b"\r\n\r\n" not in data:
            data += await self.until_done(self.tls.read, 1 << 16)
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        if " 200 " not in lines[0] + " ":
            raise Wrong(lines[0])
        fields = dict((k.lower(), v.strip()) for k, _, v in (line.partition(":") for line in lines[1:]))
        parts, size, length = [body], len(body), int(fields["content-length"])
        while size < length:
            parts.append(await self.until_done(self.tls.read, 1 << 16))
            size += len(parts[-1])
        return fields, b"".join(parts)

    def close(self):
        if self.writer:
            self.writer.close()
            self.writer = None
