"""What the shop's day needs on both sides: what pages look like, where prices are, and the crowd that looks at them.

Visitors look at products, some much more than others, and at categories. A few have a session: they look at their carts and accounts as well.
Each reply is checked: it is the page that was asked for, for who has asked, and shows no price that was changed more than a second before.
"""

import asyncio
import bisect
import collections
import os
import random
import struct
import time
from pathlib import Path
import sys

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "support")]
from light_http import Connection, length_of  # noqa: E402

PRODUCTS, IN_CATEGORY = 500, 10
GROUPS = ("all", "trade")
# Of those who come: have a session; belong to another group of customers; are new, and given a session by the page that they see.
SESSIONS, TRADE, NEW = 0.04, 0.1, 0.003
VISIBLE_WITHIN, DEADLINE = 1.0, 10.0
PADDING = "." * 12_000


def page_of(path, whose, shows):
    return f"page={path}\nfor={whose}\nshows={shows}\n{PADDING}"


def price_at(file, product):
    return struct.unpack("<Q", os.pread(file, 8, product * 8))[0]


class Prices:
    """All prices, the moments at which they were changed, and by when everybody is to see that."""

    def __init__(self, path):
        self.path = path
        path.write_bytes(struct.pack("<Q", 1) * PRODUCTS)
        self.file = os.open(path, os.O_RDWR)
        self.changes = {product: ([float("-inf")], [1]) for product in range(PRODUCTS)}

    def raise_one(self, product):
        price = self.changes[product][1][-1] + 1
        os.pwrite(self.file, struct.pack("<Q", price), product * 8)
        return price

    def is_purged(self, product, price):
        moments, prices = self.changes[product]
        moments.append(time.monotonic() + VISIBLE_WITHIN)
        prices.append(price)

    def least(self, products, moment):
        """What may be shown at least, of a page that was asked for then."""
        of = lambda product: self.changes[product][1][bisect.bisect_right(self.changes[product][0], moment) - 1]
        return sum(map(of, products))


class Asked(Connection):
    """A connection that keeps what it is answered."""

    def ask_for(self, method, path, fields):
        self.waiting, self.seen = asyncio.get_running_loop().create_future(), b""
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        self.transport.write(f"{method} {path} HTTP/1.1\r\nHost: shop\r\n{lines}\r\n".encode())
        return self.waiting

    def settle(self, status):
        head, _, body = self.seen.partition(b"\r\n\r\n")
        if not self.waiting.done():
            self.waiting.set_result((status, head.decode("latin-1"), body[: length_of(head)].decode()))


class Crowd:
    def __init__(self, port, clients, thinks, prices, seed):
        self.port, self.clients, self.thinks, self.prices = port, clients, thinks, prices
        self.rng = random.Random(seed)
        self.views, self.times = 0, []
        self.wrong, self.failed, self.cached = collections.Counter(), collections.Counter(), collections.Counter()
        self.examples = []
        # A few products are looked at most (Zipf).
        weights = [1 / (rank + 1) for rank in range(PRODUCTS)]
        self.products = random.Random(seed).choices(range(PRODUCTS), weights, k=100_000)

    async def run(self):
        await asyncio.gather(*(self.client(number) for number in range(self.clients)))

    async def client(self, number):
        rng = random.Random(self.rng.random())
        session = f"s{number}" if rng.random() < SESSIONS else None
        group = GROUPS[rng.random() < TRADE]
        connection = None
        await asyncio.sleep(rng.random() * self.thinks)
        while True:
            try:
                async with asyncio.timeout(DEADLINE):
                    if connection is None or not connection.is_usable:
                        loop = asyncio.get_running_loop()
                        _, connection = await loop.create_connection(Asked, "127.0.0.1", self.port)
                    await self.view(connection, rng, session, group)
            except (TimeoutError, OSError, ValueError) as error:
                self.failed[type(error).__name__] += 1
                if connection:
                    connection.close()
                connection = None
            await asyncio.sleep(rng.expovariate(1 / self.thinks))

    async def view(self, connection, rng, session, group):
        is_new = session is None and rng.random() < NEW
        method, path, whose = "GET", f"/p/{rng.choice(self.products)}", group
        if session and rng.random() < 0.3:
            method, path = rng.choice([("GET", "/cart"), ("GET", "/account"), ("POST", "/cart")])
            whose = session
        elif rng.random() < 0.2:
            path = f"/c/{rng.randrange(PRODUCTS // IN_CATEGORY)}"
        cookies = [f"session={session}"] if session else []
        cookies += [f"group={group}"] if group != "all" else []
        fields = [("Cookie", "; ".join(cookies))] if cookies else []
        fields += [("X-Visitor", "new")] if is_new else []
        fields += [("Content-Length", "0")] if method == "POST" else []
        began = time.monotonic()
        status, head, body = await connection.ask_for(method, path, fields)
        self.times.append(time.monotonic() - began)
        self.views += 1
        if status != 200:
            # What is put into a cart is not tried again by itself.
            if method == "GET":
                self.failed[str(status)] += 1
            return
        for line in head.split("\r\n"):
            if line.lower().startswith("cache-status:"):
                self.cached[line.partition(":")[2].strip().split(";")[1].split("=")[0].strip()] += 1
        self.judge(path, whose, is_new, began, body, head)

    def judge(self, path, whose, is_new, began, body, head):
        page, owner, shows = (line.partition("=")[2] for line in body.split("\n")[:3])
        given = [line.partition("session=")[2].partition(";")[0] for line in head.split("\r\n") if line.lower().startswith("set-cookie:")]
        if page != path or not body.endswith(PADDING):
            return self.complain("another page, or not the whole of it", path, body[:80])
        # Who is new may have a page of one's own, with the cookie that says so, or everybody's.
        if owner != whose and not (is_new and given == [owner]):
            return self.complain("another's page", path, body[:80])
        if given and not is_new:
            return self.complain("another's session", path, given[0])
        kind, _, number = path[1:].partition("/")
        if kind in ("p", "c"):
            products = [int(number)] if kind == "p" else [int(number) * IN_CATEGORY + n for n in range(IN_CATEGORY)]
            if int(shows) < self.prices.least(products, began):
                self.complain("an old price", path, f"{shows} < {self.prices.least(products, began)}")

    def complain(self, what, path, seen):
        self.wrong[what] += 1
        if len(self.examples) < 5:
            self.examples.append(f"{what}: {path}: {seen!r}")

    def p(self, share):
        times = sorted(self.times)
        return times[min(len(times) - 1, int(len(times) * share))] if times else float("nan")
