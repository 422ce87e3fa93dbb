"""A Redis client that notices at once if its connection leads elsewhere: every key belongs to one connection."""

import asyncio
import itertools
import random

PATIENCE_S = 15
_numbers = itertools.count(1)


class Wrong(Exception):
    """The server answered, but not what it should have."""


class Redis:
    """One connection. `source` is the client's own address, None for whatever the kernel takes."""

    def __init__(self, where, source=None):
        self.where, self.source = where, source
        self.writer = None
        # What this connection has stored: a server that does not know it is another one.
        self.stored = {}
        self.number = next(_numbers)

    async def open(self):
        local = (self.source, 0) if self.source else None
        self.reader, self.writer = await asyncio.wait_for(
            asyncio.open_connection(*self.where, local_addr=local, limit=1 << 21), PATIENCE_S)
        return self

    def close(self):
        if self.writer:
            self.writer.close()
            self.writer = None

    async def read(self):
        line = await self.reader.readuntil(b"\r\n")
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            size = int(rest)
            return None if size < 0 else (await self.reader.readexactly(size + 2))[:-2]
        if kind == b"*":
            return [await self.read() for _ in range(int(rest))]
        if kind == b":":
            return int(rest)
        if kind == b"-":
            raise Wrong(rest.decode())
        return rest

    async def commands(self, *commands):
        """A pipeline: all are sent in one go, then all answers are read."""
        request = b"".join(
            b"*%d\r\n" % len(c) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in map(to_bytes, c)) for c in commands)
        self.writer.write(request)

        async def answers():
            await self.writer.drain()
            return [await self.read() for _ in commands]

        return await asyncio.wait_for(answers(), PATIENCE_S)

    async def command(self, *words):
        return (await self.commands(words))[0]

    async def port(self):
        """The port of the server that answers."""
        info = (await self.command("INFO", "server")).decode()
        return int(next(line[9:] for line in info.splitlines() if line.startswith("tcp_port:")))

    async def exercise(self, chance):
        """Stores, reads back and counts, by single commands and pipelines. Returns how many commands were answered."""
        key = f"{self.number}:{chance.randint(0, 20)}"
        value = chance.randbytes(chance.choice([1, 20, 300, 5000, 100_000 if chance.random() < 0.1 else 1000]))
        die = chance.random()
        if die < 0.3:
            expect(await self.command("SET", key, value), b"OK")
            self.stored[key] = value
            count = 1
        elif die < 0.6:
            expect(await self.command("GET", key), self.stored.get(key))
            count = 1
        else:
            keys = [f"{self.number}:{chance.randint(0, 20)}" for _ in range(chance.randint(2, 40))]
            pipeline, wanted, stored = [], [], dict(self.stored)
            for each in keys:
                if chance.random() < 0.5:
                    pipeline.append(("SET", each, value))
                    wanted.append(b"OK")
                    stored[each] = value
                else:
                    pipeline.append(("GET", each))
                    wanted.append(stored.get(each))
            expect(await self.commands(*pipeline), wanted)
            self.stored = stored
            count = len(pipeline)
        counter = f"{self.number}:count"
        self.stored[counter] = self.stored.get(counter, 0) + 1
        expect(await self.command("INCR", counter), self.stored[counter])
        return count + 1


def to_bytes(word):
    return word if isinstance(word, bytes) else str(word).encode()


def expect(got, wanted):
    if got != wanted:
        raise Wrong(f"{str(got)[:60]} instead of {str(wanted)[:60]}")


class Users:
    """Connections that are used all the time: some for the whole run, some for a few dozen commands."""

    def __init__(self, where):
        self.where = where
        self.stop = asyncio.Event()
        self.answered = self.connections = 0
        self.faults = []
        self.kept = []

    def start(self, kept, brief):
        self.tasks = [asyncio.create_task(self.keep(i)) for i in range(kept)]
        self.tasks += [asyncio.create_task(self.come_and_go(kept + i)) for i in range(brief)]

    async def use(self, connection, chance, times):
        for _ in range(times):
            if self.stop.is_set():
                return
            self.answered += await connection.exercise(chance)
            await asyncio.sleep(chance.uniform(0.02, 0.12))

    async def keep(self, seed):
        """One connection from the first to the last; that it breaks is a fault."""
        connection = Redis(self.where)
        self.kept.append(connection)
        try:
            await connection.open()
            self.connections += 1
            await self.use(connection, random.Random(seed), 1 << 30)
        except (OSError, EOFError, asyncio.TimeoutError, Wrong) as e:
            self.faults.append(f"kept connection {seed} after {connection.stored.get(f'{connection.number}:count', 0)} rounds: {e!r}")
        connection.close()

    async def come_and_go(self, seed):
        chance = random.Random(seed)
        while not self.stop.is_set():
            connection = Redis(self.where)
            try:
                await connection.open()
                self.connections += 1
                await self.use(connection, chance, chance.randint(1, 30))
            except (OSError, EOFError, asyncio.TimeoutError, Wrong) as e:
                self.faults.append(f"brief connection: {e!r}")
            connection.close()

    async def end(self):
        self.stop.set()
        await asyncio.gather(*self.tasks)
