"""What happens to sources and servers while requests run, the same for whoever stands in the middle."""

import asyncio
import time
from dataclasses import dataclass
from typing import Callable

from discovery_dns import SERVFAIL, TRUNCATED
from discovery_load import Load
from discovery_world import EMPTY, ENDLESS, FAILING, GARBAGE, GOOD, MANY, NAME, NEW, OLD
from stage import accepts


class Through:
    """Who stands in the middle. `ports`: the listener's port for each pool that it can have."""

    name = ""
    # What names the servers of the events that every balancer has: "dns" or "http".
    source = "dns"

    def __init__(self, world):
        self.world, self.ports = world, {}

    async def start(self):
        raise NotImplementedError

    async def stop(self):
        raise NotImplementedError

    async def witness(self, event, moment):
        """Whether it has noticed: asked in the midst of an event, before it is over, and after it."""


@dataclass
class Event:
    key: str
    pool: str
    title: str
    act: Callable


@dataclass
class Outcome:
    sent: int
    failed: int
    # By kind.
    failures: dict
    # Asked again by the client, because a kept connection was closed as the request came.
    again: int
    # Who answered in the last second.
    last: dict
    # As this run's own clients had it, with all that else has kept the machine busy.
    p99_ms: float = 0.0


class Run:
    """One balancer through the events; `length` is how long each takes, in seconds."""

    def __init__(self, world, through, length, rate):
        self.world, self.through, self.length, self.rate = world, through, length, rate
        self.load = None

    async def play(self, event):
        """Load, the event in its midst, and what has become of the requests."""
        self.load = Load(self.through.ports[event.pool], self.rate)
        running = asyncio.create_task(self.load.run())
        try:
            await asyncio.sleep(min(1, self.length / 8))
            await event.act(self, event)
        finally:
            ended = time.monotonic()
            self.load.stopping = True
            await running
        load = self.load
        return Outcome(load.n_sent, load.n_failed, dict(load.failures), load.n_again, dict(load.who(ended - 1)),
                       load.p99_ms())

    async def rest(self, share=1.0):
        await asyncio.sleep(self.length * share)

    # Each event ends with sources and servers in order.

    async def replace(self, event):
        """Seven new servers take the place of seven, which live three seconds longer than their records."""
        source = self.through.source
        for n in range(8):
            self.world.lead(source, NEW[:n] + OLD[n:])
            await asyncio.sleep(1 / 7)
        await asyncio.sleep(3)
        for address in OLD:
            self.world.die(address)
        await self.rest(0.85)
        await self.through.witness(event, "done")
        # And back, for those who come after.
        for address in OLD:
            await self.world.live(address)
        self.world.lead(source, OLD)
        await asyncio.sleep(4)

    async def unknown(self, event):
        self.world.dns.lead(NAME, [])
        await self.midst(event, lambda: self.world.dns.code(NAME), 3)
        self.world.dns.lead(NAME, OLD)

    async def servfail(self, event):
        await self.world.dns.pretend(SERVFAIL, OLD[0])
        await self.midst(event, lambda: self.world.dns.code(NAME), 2)
        await self.world.dns.start()

    async def stopped(self, event):
        if self.through.source == "http":
            self.world.web.stop()
            await self.midst(event)
            await self.world.web.start()
            return
        await self.world.dns.stop()
        await self.midst(event, lambda: self.world.dns.code(NAME), None)
        await self.world.dns.start()

    async def truncated(self, event):
        await self.world.dns.pretend(TRUNCATED, OLD[0])
        await self.midst(event, lambda: self.world.dns.code(NAME), TRUNCATED)
        assert not accepts(self.world.dns.port), "TCP is refused"
        await self.world.dns.start()

    async def midst(self, event, asked=None, expected=None):
        """Sees for itself that the source does what it should."""
        if asked:
            # dnsmasq reads its list anew a moment after it is told to.
            for _ in range(100):
                heard = await asked()
                if heard == expected:
                    break
                await asyncio.sleep(0.02)
            assert heard == expected, f"{event.title}: the source says {heard}, not {expected}"
        await self.rest()
        await self.through.witness(event, "midst")

    async def restart(self, event):
        """Nobody can be asked as it starts. Requests wait while nobody listens, and not a moment longer."""
        if self.through.source == "http":
            self.world.web.stop()
        else:
            await self.world.dns.stop()
        await self.rest(0.2)
        before, self.load.stopping = self.load, True
        while before.waiting:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        await self.through.stop()
        load = self.load = Load(before.port, self.rate)
        try:
            await self.through.start()
        except (RuntimeError, TimeoutError) as error:
            # It does not start at all: what would have been asked is lost.
            load.n_sent = int(self.length * self.rate)
            load.failures[f"does not start ({str(error).splitlines()[0][:80]})"] = load.n_sent
        else:
            running = asyncio.create_task(load.run())
            await self.rest()
            await self.through.witness(event, "midst")
            load.stopping = True
            await running
        load.n_sent += before.n_sent
        load.failures += before.failures
        if self.through.source == "http":
            await self.world.web.start()
        else:
            await self.world.dns.start()

    async def upgrade(self, event):
        """Another process takes over while nobody can be asked; no request waits."""
        await self.world.dns.stop()
        await self.rest(0.3)
        await self.through.upgrade()
        await self.rest(0.7)
        await self.through.witness(event, "midst")
        await self.world.dns.start()

    async def thousand(self, event):
        source, step = self.through.source, self.length * 0.4 / len(MANY)
        began = time.monotonic()
        for n in range(1, len(MANY) + 1):
            self.world.lead(source, MANY[:n], "many")
            await asyncio.sleep(max(0, began + n * step - time.monotonic()))
        await asyncio.sleep(2)
        await self.through.witness(event, "midst")
        began = time.monotonic()
        for n in range(len(MANY) - 1, 0, -1):
            self.world.lead(source, MANY[:n], "many")
            await asyncio.sleep(max(0, began + (len(MANY) - n) * step - time.monotonic()))
        await self.rest(0.2)

    async def priorities(self, event):
        await self.world.dns.serve(self.world.services({n: (20 if n < 3 else 10, 10) for n in range(6)}))
        await self.rest()
        await self.through.witness(event, "midst")
        await self.world.dns.serve(self.world.services({}))

    async def weights(self, event):
        await self.world.dns.serve(self.world.services({0: (10, 80), 1: (10, 10), 2: (10, 10)}))
        await self.rest()
        await self.through.witness(event, "midst")
        await self.world.dns.serve(self.world.services({}))

    async def rename(self, event):
        await self.other_list(event, self.world.replace_file)

    async def symlink(self, event):
        await self.other_list(event, self.world.swap_link)

    async def other_list(self, event, write):
        write(NEW)
        await self.rest(0.7)
        await self.through.witness(event, "midst")
        write(OLD)
        await self.rest(0.3)

    async def web(self, event):
        how = {"http_500": FAILING, "http_garbage": GARBAGE, "http_empty": EMPTY, "http_10m": ENDLESS}[event.key]
        self.world.web.behave(how)
        await self.rest()
        assert self.world.web.n_asked, f"{event.title}: nobody has asked the source"
        await self.through.witness(event, "midst")
        self.world.web.behave(GOOD)


# In this order a source that has failed has time to be asked again while others are on trial.
EVENTS = [
    Event("replace", "app", "7 of 7 addresses replaced within 1 s", Run.replace),
    Event("rename", "file", "a file replaced by rename", Run.rename),
    Event("nxdomain", "app", "NXDOMAIN", Run.unknown),
    Event("symlink", "link", "a file replaced by a symlink's swap", Run.symlink),
    Event("servfail", "app", "SERVFAIL", Run.servfail),
    Event("http_500", "http", "the http source answers 500", Run.web),
    Event("stopped", "app", "the source is stopped", Run.stopped),
    Event("http_garbage", "http", "the http source answers garbage", Run.web),
    Event("truncated", "app", "truncated answers with TCP refused", Run.truncated),
    Event("http_empty", "http", "the http source answers an empty list", Run.web),
    Event("priorities", "srv", "SRV priorities change", Run.priorities),
    Event("http_10m", "http", "the http source answers 10 MiB", Run.web),
    Event("restart", "app", "restart with the source dead", Run.restart),
    Event("weights", "srv", "SRV weights change", Run.weights),
    Event("upgrade", "app", "upgrade with the source dead", Run.upgrade),
    Event("thousand", "many", "1,000 servers added and removed one by one", Run.thousand),
]
