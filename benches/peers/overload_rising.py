"""Clients rising far beyond what servers can do, and servers that do less the more they are given.

Each client asks, waits for up to a second, gives up by closing its connection, thinks, and comes back. A server does well with
so many requests at once; beyond, each takes longer, and by more than its share, as where threads fight over locks and memory.
It does not notice that a client has gone, as most application servers do not.
"""

import asyncio
import collections
import random
import time
from dataclasses import dataclass

from light_http import Client, Pace, listen

SERVERS, PLACES, SERVICE, STEEPNESS = 4, 12, 0.2, 1.5
CAPACITY = SERVERS * PLACES / SERVICE
PATIENCE, THINKS = 1.0, 4.0
COUNTS = (500, 1000, 2000, 4000, 6000)
SETTLES = 6.0


class Server:
    """Its service time grows with how many requests it has."""

    def __init__(self):
        self.at_once, self.done, self.in_vain, self.slow = 0, 0, 0, 1.0

    def asked(self, _path, connection):
        self.at_once += 1
        takes = SERVICE * self.slow * max(1.0, self.at_once / PLACES) ** STEEPNESS
        asyncio.get_running_loop().call_later(takes, self.finish, connection)

    def finish(self, connection):
        self.at_once -= 1
        self.done += 1
        self.in_vain += connection.is_gone()
        connection.reply()


class Servers:
    def __init__(self):
        self.all = [Server() for _ in range(SERVERS)]

    async def start(self):
        listening = [await listen(server) for server in self.all]
        self.ports, self.listeners = [port for port, _ in listening], [server for _, server in listening]
        return self.ports

    def counts(self):
        """What they have done, and of that for clients that had gone."""
        return sum(server.done for server in self.all), sum(server.in_vain for server in self.all)

    def slow_down(self, factor):
        for server in self.all:
            server.slow = factor

    def stop(self):
        for listener in self.listeners:
            listener.close()


@dataclass
class Step:
    """What so many clients saw."""

    clients: int
    goodput: float
    answers: collections.Counter
    done: int
    in_vain: int
    pace: Pace

    def told(self):
        answers = ", ".join(f"{count} {what}" for what, count in sorted(self.answers.items()))
        return (f"{self.clients} clients: {self.goodput:.0f}/s in time; {answers}; done by servers {self.done}, in vain {self.in_vain}; "
                f"this generator woke {self.pace.lateness() * 1000:.0f} ms late (p99), {self.pace.busy():.0%} of a core")


class Clients:
    """As many as there are by now."""

    def __init__(self, port, seed):
        self.port, self.rng, self.tasks = port, random.Random(seed), []
        self.answers = collections.Counter()

    def rise_to(self, count):
        while len(self.tasks) < count:
            self.tasks.append(asyncio.create_task(self.one(random.Random(self.rng.random()))))

    async def one(self, rng):
        client = Client(self.port)
        await asyncio.sleep(rng.random() * THINKS)
        while True:
            status = await client.ask(patience=PATIENCE)
            self.answers["answered" if status == 200 else "gave up" if status == 0 else "refused"] += 1
            await asyncio.sleep(rng.expovariate(1 / THINKS))

    async def leave(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def climb(port, servers, seconds, seed, tell):
    """All steps through one balancer, which is not started anew in between."""
    clients, steps = Clients(port, seed), []
    for count in COUNTS:
        clients.rise_to(count)
        await asyncio.sleep(SETTLES)
        pace = Pace()
        watching = asyncio.create_task(pace.watch())
        clients.answers.clear()
        began, before = time.monotonic(), servers.counts()
        await asyncio.sleep(seconds)
        passed, answers, after = time.monotonic() - began, clients.answers.copy(), servers.counts()
        watching.cancel()
        steps.append(Step(count, answers["answered"] / passed, answers, after[0] - before[0], after[1] - before[1], pace))
        tell(steps[-1].told())
    await clients.leave()
    return steps
