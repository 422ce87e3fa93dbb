"""The bad day: what clients see of a shop whose servers misbehave, one after the other and all at once.

1,500 clients, each of which asks, thinks and asks again: nine of ten requests are GETs, with 5 s for an answer; the others are orders
(POST), each with a number. App servers answer in some 40 ms. First all is calm. Then one server is killed (SIGKILL), one stopped
(SIGSTOP: the kernel still accepts its connections), one becomes ten times slower, one answers 30 % with 503; then, with a fifth good
server, all of that at once. Whoever balances is started by the caller, who is told the servers' ports.
"""

import asyncio
import collections
import http.client
import random
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support")]
from stage import free_ports  # noqa: E402

CLIENTS, THINKS, DEADLINE = 1500, 4.0, 5.0


@dataclass
class Seen:
    """What clients saw in one phase."""

    good: int = 0
    late: list = field(default_factory=list)
    bad: collections.Counter = field(default_factory=collections.Counter)
    orders: int = 0
    failed_orders: int = 0
    times: list = field(default_factory=list)

    def share(self):
        return self.good / max(1, self.asked())

    def asked(self):
        return self.good + sum(self.bad.values())

    def p(self, share):
        times = sorted(self.times)
        return times[min(len(times) - 1, int(len(times) * share))] if times else float("nan")


class Servers:
    """The app servers, as processes."""

    def __init__(self, stage, count):
        self.stage, self.orders = stage, stage.dir / "orders"
        self.ports = free_ports(count)
        self.processes = [None] * count
        for place in range(count):
            self.start(place)

    def start(self, place):
        argv = [sys.executable, HERE / "bad_day_app.py", str(self.ports[place]), f"s{place + 1}", str(self.orders)]
        self.processes[place] = self.stage.start(f"s{place + 1}", argv)
        self.stage.wait_for_port(self.processes[place], self.ports[place])

    def kill(self, place):
        self.processes[place].signal(signal.SIGKILL)

    def revive(self, place):
        self.stage.forget(self.processes[place])
        self.start(place)

    def stop(self, place):
        self.processes[place].signal(signal.SIGSTOP)

    def go_on(self, place):
        self.processes[place].signal(signal.SIGCONT)

    def mode(self, place, slow=1.0, errors=0.0):
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[place], timeout=10)
        connection.request("GET", f"/mode?slow={slow}&errors={errors}")
        assert connection.getresponse().status == 200
        connection.close()

    def executed(self):
        """How often each order was."""
        lines = self.orders.read_text().splitlines() if self.orders.exists() else []
        return collections.Counter(line.split()[0] for line in lines)


class Clients:
    def __init__(self, port, seed):
        self.port, self.rng = port, random.Random(seed)
        self.seen = Seen()
        self.number = 0
        self.over = False

    async def run(self):
        await asyncio.gather(*(self.client() for _ in range(CLIENTS)))

    async def client(self):
        connection = None
        # They do not begin all at once.
        await asyncio.sleep(self.rng.random() * THINKS)
        while not self.over:
            is_order = self.rng.random() < 0.1
            began, seen = time.monotonic(), self.seen
            try:
                status, connection = await asyncio.wait_for(self.ask(connection, is_order), DEADLINE)
                failure = None if 200 <= status < 300 else str(status)
            except asyncio.TimeoutError:
                failure, connection = "late", self.drop(connection)
            except (OSError, IndexError, asyncio.IncompleteReadError) as error:
                failure, connection = type(error).__name__, self.drop(connection)
            self.note(seen, is_order, failure, time.monotonic() - began)
            await asyncio.sleep(self.rng.expovariate(1 / THINKS))
        self.drop(connection)

    @staticmethod
    def drop(connection):
        if connection:
            connection[1].close()

    async def ask(self, connection, is_order):
        reader, writer = connection or await asyncio.open_connection("127.0.0.1", self.port)
        self.number += is_order
        order = f"POST /order HTTP/1.1\r\nHost: shop\r\nX-Order: {self.number}\r\nContent-Length: 2\r\n\r\n{{}}"
        writer.write((order if is_order else "GET /page HTTP/1.1\r\nHost: shop\r\n\r\n").encode())
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        lengths = [int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")]
        is_chunked = any(line.startswith(b"transfer-encoding:") for line in lines)
        if lengths:
            await reader.readexactly(lengths[0])
        elif is_chunked:
            await reader.readuntil(b"0\r\n\r\n")
        status = int(lines[0].split()[1])
        if any(line.startswith(b"connection:") and b"close" in line for line in lines):
            writer.close()
            return status, None
        return status, (reader, writer)

    @staticmethod
    def note(seen, is_order, failure, took):
        if is_order:
            seen.orders += 1
            seen.failed_orders += failure is not None
        elif failure is None:
            seen.good += 1
            seen.times.append(took)
        else:
            seen.bad[failure] += 1


async def watch(clients, seconds):
    """What clients see from now on for so long; requests count where they begin."""
    seen = clients.seen = Seen()
    await asyncio.sleep(seconds)
    clients.seen = Seen()
    # What is under way counts here still, until its time is over.
    await asyncio.sleep(DEADLINE / 5)
    return seen


async def one_after_the_other(servers, clients, seconds):
    """Yields each phase's name and what was seen."""
    yield "calm", await watch(clients, seconds)
    servers.kill(0)
    yield "one killed", await watch(clients, seconds)
    await in_thread(servers.revive, 0)
    await asyncio.sleep(3)
    servers.stop(1)
    yield "one stopped", await watch(clients, seconds)
    servers.go_on(1)
    await asyncio.sleep(3)
    await in_thread(servers.mode, 2, 10)
    yield "one ten times slower", await watch(clients, seconds)
    await in_thread(servers.mode, 2)
    await asyncio.sleep(3)
    await in_thread(servers.mode, 3, 1, 0.3)
    yield "one answers 30 % with 503", await watch(clients, seconds)
    await in_thread(servers.mode, 3)


async def all_at_once(servers, clients, seconds):
    """The same of five servers, of which the fifth is good."""
    yield "calm, five servers", await watch(clients, seconds)
    await in_thread(servers.mode, 2, 10)
    await in_thread(servers.mode, 3, 1, 0.3)
    servers.stop(1)
    servers.kill(0)
    yield "all at once", await watch(clients, seconds)
    servers.go_on(1)


def in_thread(work, *arguments):
    return asyncio.get_running_loop().run_in_executor(None, work, *arguments)


async def play(stage_of, start, seconds, seed, tell):
    """Both halves of the day with a balancer that `start` starts for the servers' ports and that has a `port` and a `stop`.
    `tell` hears of each phase; the answer is how many orders were executed more than once, of how many."""
    twice = total = 0
    for count, half in ((4, one_after_the_other), (5, all_at_once)):
        with stage_of() as stage:
            servers = Servers(stage, count)
            balancer = await in_thread(start, stage, servers.ports)
            clients = Clients(balancer.port, seed)
            running = asyncio.create_task(clients.run())
            await asyncio.sleep(THINKS)
            async for name, seen in half(servers, clients, seconds):
                tell(name, seen)
            clients.over = True
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            executed = servers.executed()
            twice += sum(1 for times in executed.values() if times > 1)
            total += len(executed)
            balancer.stop()
    return twice, total
