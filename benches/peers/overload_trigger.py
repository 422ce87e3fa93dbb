"""A failure that outlives its cause: servers that are slow for ten seconds, and clients who try again.

Users come by chance at 80 % of what servers can do. Each gives up after a second by closing, and tries again at once, up to three
times more. Then everything takes four times as long for ten seconds. What is seen is who is served once that is over. (Bronson and
others, "Metastable Failures in Distributed Systems", 2021.)
"""

import asyncio
import random
import time

from light_http import Client
from overload_rising import CAPACITY, PATIENCE

LOAD, TRIES, SLOWER = 0.8, 4, 4.0
# Seconds after the beginning, by name, in which users' fates are counted; everything is slow from 8 to 18.
SLOW = (8.0, 18.0)
PHASES = {"before": (3.0, 8.0), "while it lasts": (8.0, 18.0), "5 to 10 s after": (23.0, 28.0), "15 to 20 s after": (33.0, 38.0)}


class Users:
    def __init__(self, port, seed):
        self.port, self.rng = port, random.Random(seed)
        self.client = Client(port)
        # Whether each was served, by when it came.
        self.fates = []

    async def one(self, at):
        for _ in range(TRIES):
            status = await self.client.ask(patience=PATIENCE)
            if status == 200:
                break
        self.fates.append((at, status == 200))

    async def come(self, servers):
        users, began = [], time.monotonic()
        at, end = 0.0, max(phase[1] for phase in PHASES.values())
        while (at := at + self.rng.expovariate(LOAD * CAPACITY)) < end:
            await asyncio.sleep(max(0.0, began + at - time.monotonic()))
            servers.slow_down(SLOWER if SLOW[0] <= at < SLOW[1] else 1.0)
            users.append(asyncio.create_task(self.one(at)))
        await asyncio.gather(*users)
        self.client.close()

    def served(self, phase):
        begin, end = PHASES[phase]
        fates = [was_served for at, was_served in self.fates if begin <= at < end]
        return sum(fates) / max(1, len(fates))
