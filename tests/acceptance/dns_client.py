"""A DNS client as small as it can be: it asks for A and TXT records and believes nothing it did not ask for."""

import asyncio
import itertools
import socket
import struct

A, TXT = 1, 16
PATIENCE_S = 4
_ids = itertools.count(1)


class Wrong(Exception):
    """An answer came, but not the right one."""


def question(name, kind):
    return b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\0" + struct.pack(">HH", kind, 1)


def query(number, name, kind):
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + question(name, kind)


def skip_name(data, at):
    while data[at]:
        if data[at] >= 0xC0:
            return at + 2
        at += data[at] + 1
    return at + 1


def answers(data, number, name, kind):
    """The records of an answer to exactly this question: addresses as text, texts as bytes."""
    got, flags, questions, count, _, _ = struct.unpack_from(">HHHHHH", data)
    if got != number or not flags & 0x8000 or flags & 0x000F or questions != 1:
        raise Wrong(f"id {got} of {number}, flags {flags:#06x}")
    asked = question(name, kind)
    if data[12:12 + len(asked)].lower() != asked.lower():
        raise Wrong("an answer to another question")
    at, found = 12 + len(asked), []
    for _ in range(count):
        at = skip_name(data, at)
        got_kind, _, _, size = struct.unpack_from(">HHIH", data, at)
        value = data[at + 10:at + 10 + size]
        at += 10 + size
        if got_kind == kind:
            found.append(socket.inet_ntoa(value) if kind == A else value[1:1 + value[0]])
    return found


class Resolver:
    """One UDP socket: one session with whoever answers. There are no second tries; a lost query is a fault."""

    def __init__(self, where, source="127.0.0.1"):
        self.where = where
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind((source, 0))
        self.socket.connect(where)

    async def ask(self, name, kind=A):
        number = next(_ids) & 0xFFFF
        loop = asyncio.get_running_loop()
        self.socket.send(query(number, name, kind))
        data = await asyncio.wait_for(loop.sock_recv(self.socket, 4096), PATIENCE_S)
        return answers(data, number, name, kind)

    async def server(self):
        """The name of the server that answers this session."""
        return (await self.ask("who.test", TXT))[0].decode()

    def close(self):
        self.socket.close()


async def ask_over_tcp(where, name, kind=A):
    """The same question over TCP (RFC 7766: two bytes of length first)."""
    number = next(_ids) & 0xFFFF
    reader, writer = await asyncio.wait_for(asyncio.open_connection(*where), PATIENCE_S)
    try:
        data = query(number, name, kind)
        writer.write(struct.pack(">H", len(data)) + data)
        (size,) = struct.unpack(">H", await asyncio.wait_for(reader.readexactly(2), PATIENCE_S))
        return answers(await reader.readexactly(size), number, name, kind)
    finally:
        writer.close()
