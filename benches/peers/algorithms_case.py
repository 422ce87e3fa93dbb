"""One case of benches/peers/algorithms: servers with so many workers each, how long requests take, what is wrong with one of the
servers, and clients that come by chance. Requests bring along how long they take, so that everybody gets the same work.
"""

import asyncio
import collections
import random
import time
from dataclasses import dataclass

from light_http import Client, listen

# How long a request takes on average, in seconds, and how long clients wait.
MEAN, PATIENCE = 0.1, 5.0
# Servers → workers of each: between 440 and 500 requests a second in all.
WORKERS = {4: 12, 11: 4, 50: 1}
DELAYS = {
    "fixed": lambda rng: MEAN,
    # Half of them below 73 ms, one in a hundred above 470 ms.
    "lognormal": lambda rng: MEAN * rng.lognormvariate(-0.32, 0.8),
    # One in ten is slow: 50 ms and 550 ms.
    "bimodal": lambda rng: MEAN * (0.5 if rng.random() < 0.9 else 5.5),
}
FAILING = "failing fast"


@dataclass(frozen=True)
class Case:
    servers: int
    delays: str
    load: float
    # "3 × slower", FAILING, or nothing.
    bad: str = ""

    def __str__(self):
        return f"{self.servers}, {self.delays}, {self.load:.0%}, " + (f"one {self.bad}" if self.bad else "all alike")

    def rate(self):
        return self.servers * WORKERS[self.servers] / MEAN * self.load


class Server:
    """Works on as many requests at once as it has workers; others wait with it."""

    def __init__(self, workers, bad=""):
        self.free, self.waiting, self.asked_for = workers, collections.deque(), 0
        self.fails = bad == FAILING
        self.slow = 1.0 if self.fails or not bad else float(bad.split()[0])

    def asked(self, path, connection):
        self.asked_for += 1
        if self.fails:
            return connection.reply(500)
        self.waiting.append((float(path[1:]), connection))
        self.work()

    def work(self):
        while self.free and self.waiting:
            takes, connection = self.waiting.popleft()
            self.free -= 1
            asyncio.get_running_loop().call_later(takes * self.slow, self.finish, connection)

    def finish(self, connection):
        self.free += 1
        connection.reply()
        self.work()


class Run:
    """A case through one balancer."""

    def __init__(self, case, seed):
        self.case, self.rng = case, random.Random(f"{seed} {case}")
        self.servers = [Server(WORKERS[case.servers], case.bad if place == 0 else "") for place in range(case.servers)]
        self.times, self.failed = [], 0

    async def listen(self):
        listening = [await listen(server) for server in self.servers]
        self.listeners = [server for _, server in listening]
        return [port for port, _ in listening]

    async def play(self, port, learns, seconds):
        """Clients for so long; the first ones, by whom algorithms learn, are not counted."""
        client, asks = Client(port), []
        began = at = time.monotonic()
        asked_before = [0] * len(self.servers)
        is_counted = False
        while (at := at + self.rng.expovariate(self.case.rate())) < began + learns + seconds:
            takes = DELAYS[self.case.delays](self.rng)
            if not is_counted and at > began + learns:
                is_counted, asked_before = True, [server.asked_for for server in self.servers]
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            asks.append(asyncio.create_task(self.ask(client, takes, at, is_counted)))
        asked = [server.asked_for - before for server, before in zip(self.servers, asked_before)]
        await asyncio.gather(*asks)
        client.close()
        for listener in self.listeners:
            listener.close()
        self.share = asked[0] / max(1, sum(asked))

    async def ask(self, client, takes, at, is_counted):
        status = await client.ask(f"/{takes:.4f}", PATIENCE)
        if not is_counted:
            return
        if status in (0, 200):
            # Who gave up has waited for so long at least.
            self.times.append(time.monotonic() - at if status else PATIENCE)
        else:
            self.failed += 1

    def p(self, share):
        """Milliseconds, of those that did not fail."""
        times = sorted(self.times)
        return times[min(len(times) - 1, int(len(times) * share))] * 1000 if times else float("nan")

    def cell(self):
        slowest = [f"{self.p(share):.0f}" if self.p(share) < PATIENCE * 1000 else "late" for share in (0.5, 0.99, 0.999)]
        share = f"{self.share:.1%}; " if self.case.bad else ""
        return share + " / ".join(slowest)
