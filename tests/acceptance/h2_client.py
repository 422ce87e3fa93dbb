"""HTTP/2 as a client speaks it (RFC 9113), with as little of HPACK as a client can do with: it sends fields as literals,
allows no dynamic table, and reads of a response's fields the status alone."""

import asyncio
import struct

from clients import PATIENCE_S, Bad

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
REFUSED_STREAM, CANCEL = 7, 8
WINDOW = 1 << 20
# The statuses of HPACK's static table, and how Huffman's code writes digits: (bits, code).
STATUSES = {0x88: 200, 0x89: 204, 0x8A: 206, 0x8B: 304, 0x8C: 400, 0x8D: 404, 0x8E: 500}
DIGITS = {(5, d): str(d) for d in range(3)} | {(6, 0x16 + d): str(d) for d in range(3, 10)}


class Unprocessed(Exception):
    """The other side's word for it: nobody has looked at the request, so it may be sent again, whatever its method."""


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def text(value):
    data = value.encode("latin-1")
    if len(data) < 127:
        return bytes([len(data)]) + data
    length, rest = b"\x7f", len(data) - 127
    while rest >= 128:
        length, rest = length + bytes([rest & 0x7F | 0x80]), rest >> 7
    return length + bytes([rest]) + data


def head(method, path, authority, fields=(), scheme="http"):
    """A request's fields, none of them indexed."""
    pseudo = [(":method", method), (":scheme", scheme), (":authority", authority), (":path", path)]
    return b"".join(b"\0" + text(name.lower()) + text(value) for name, value in [*pseudo, *fields])


def status_of(block):
    """The status that begins a response's fields; 0 for trailers, which begin with something else."""
    at = 0
    while at < len(block) and block[at] & 0xE0 == 0x20:
        # A table's new size, as it follows from our settings.
        at += 1
    if block[at] in STATUSES:
        return STATUSES[block[at]]
    # A literal whose name is one of the static table's seven that are `:status`, in any of the three kinds.
    index = block[at] & (0x3F if block[at] & 0x40 else 0x0F)
    if not 8 <= index <= 14:
        return 0
    size, value = block[at + 1] & 0x7F, block[at + 2:at + 2 + (block[at + 1] & 0x7F)]
    if not block[at + 1] & 0x80:
        return int(value)
    bits, digits = "".join(f"{b:08b}" for b in value[:size]), ""
    while len(digits) < 3:
        width = next(w for w in (5, 6) if (w, int(bits[:w], 2)) in DIGITS)
        digits, bits = digits + DIGITS[width, int(bits[:width], 2)], bits[width:]
    return int(digits)


class Stream:
    def __init__(self, window):
        self.status, self.body = 0, bytearray()
        self.window = window
        self.done = asyncio.get_running_loop().create_future()


class H2:
    """One connection; requests run side by side on it."""

    def __init__(self, where, tls=None):
        self.where, self.tls = where, tls
        self.streams, self.next, self.window, self.initial = {}, 1, 65535, 65535
        self.going = False
        self.room = asyncio.Condition()
        self.writer = None

    async def open(self):
        secure = {"ssl": self.tls, "server_hostname": "app.example"} if self.tls else {}
        try:
            opening = asyncio.open_connection(*self.where, **secure)
            self.reader, self.writer = await asyncio.wait_for(opening, PATIENCE_S)
        except OSError as e:
            raise Bad("refused", f"connect: {e}") from e
        # No dynamic table, no push, windows that no response of a run fills.
        settings = struct.pack(">HIHIHI", 1, 0, 2, 0, 4, WINDOW)
        self.writer.write(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 24)))
        self.task = asyncio.create_task(self.read())
        return self

    def usable(self):
        return self.writer is not None and not self.going and not self.task.done()

    def close(self):
        if self.writer:
            self.task.cancel()
            self.writer.close()
            self.writer = None

    async def request(self, method, path, fields=(), body=b"", authority="app.example"):
        """(status, body). Raises `Unprocessed` if it may be sent again."""
        if not self.usable():
            raise Unprocessed("the connection takes no more")
        stream, self.next = self.next, self.next + 2
        state = self.streams[stream] = Stream(self.initial)
        scheme = "https" if self.tls else "http"
        fields = [*fields, *([("content-length", str(len(body)))] if body else [])]
        self.writer.write(frame(HEADERS, END_HEADERS | (0 if body else END_STREAM), stream,
                                head(method, path, authority, fields, scheme)))
        try:
            return await asyncio.wait_for(self.finish(stream, state, body), PATIENCE_S)
        except asyncio.TimeoutError as e:
            raise Bad("timeout", f"no whole reply in {PATIENCE_S} s") from e
        finally:
            self.streams.pop(stream, None)

    async def finish(self, stream, state, body):
        at = 0
        while at < len(body) and not state.done.done():
            async with self.room:
                while min(self.window, state.window) <= 0 and not state.done.done():
                    await self.room.wait()
                size = min(self.window, state.window, 16384, len(body) - at)
                if state.done.done() or size <= 0:
                    break
                self.window, state.window = self.window - size, state.window - size
            at += size
            self.writer.write(frame(DATA, END_STREAM if at == len(body) else 0, stream, body[at - size:at]))
        await state.done
        return state.status, bytes(state.body)

    async def read(self):
        try:
            while True:
                length, kind, flags, stream = struct.unpack(">IBBI", b"\0" + await self.reader.readexactly(9))
                payload = await self.reader.readexactly(length)
                await self.take(kind, flags, stream & 0x7FFFFFFF, payload)
        except (asyncio.IncompleteReadError, OSError) as e:
            self.fail(lambda state: Bad("truncated" if state.status else "reset", f"the connection ended: {e!r}"))
        finally:
            if self.writer:
                self.writer.close()
            async with self.room:
                self.room.notify_all()

    def fail(self, why, beyond=0):
        for number, state in self.streams.items():
            if number > beyond and not state.done.done():
                state.done.set_exception(why(state))

    async def take(self, kind, flags, stream, payload):
        state = self.streams.get(stream)
        if flags & PADDED and kind in (DATA, HEADERS):
            payload = payload[1:len(payload) - payload[0]]
        if kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                name, value = struct.unpack_from(">HI", payload, at)
                if name == 4:
                    for each in self.streams.values():
                        each.window += value - self.initial
                    self.initial = value
            self.writer.write(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.writer.write(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self.going = True
            last, code = struct.unpack_from(">II", payload)
            self.fail(lambda _: Unprocessed(f"GOAWAY {code}"), last & 0x7FFFFFFF)
        elif kind == WINDOW_UPDATE:
            (more,) = struct.unpack(">I", payload)
            if stream == 0:
                self.window += more
            elif state:
                state.window += more
        elif state is None:
            pass
        elif kind == HEADERS:
            if not flags & END_HEADERS:
                raise OSError("a header block in pieces, which this client does not read")
            status = status_of(payload[5:] if flags & WITH_PRIORITY else payload)
            if status >= 200:
                state.status = status
        elif kind == DATA:
            state.body += payload
            if payload:
                more = struct.pack(">I", len(payload))
                self.writer.write(frame(WINDOW_UPDATE, 0, 0, more) + frame(WINDOW_UPDATE, 0, stream, more))
        elif kind == RST_STREAM and not state.done.done():
            (code,) = struct.unpack(">I", payload)
            why = Unprocessed("refused") if code == REFUSED_STREAM else Bad("reset", f"RST_STREAM {code}", "", bool(state.status))
            state.done.set_exception(why)
        if state and kind in (HEADERS, DATA) and flags & END_STREAM and not state.done.done():
            state.done.set_result(None)
        if kind in (SETTINGS, WINDOW_UPDATE, RST_STREAM, GOAWAY):
            async with self.room:
                self.room.notify_all()


class Client:
    """Requests over one connection after another: a new one when the old one takes no more, which ends by itself."""

    def __init__(self, where, tls=None):
        self.where, self.tls = where, tls
        self.connection = None
        self.turn = asyncio.Lock()

    async def request(self, *request, **fields):
        async with self.turn:
            if self.connection is None or not self.connection.usable():
                self.connection = await H2(self.where, self.tls).open()
            connection = self.connection
        return await connection.request(*request, **fields)

    def close(self):
        if self.connection:
            self.connection.close()
            self.connection = None
