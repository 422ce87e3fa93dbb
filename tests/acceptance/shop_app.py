"""One app server of the shop's day, a process of its own so that it can be killed.

    shop_app.py PORT NAME PRICES

Pages, each of which says whose it is and which price it shows:

- `/p/N`: a product, the same for everybody but for the group of customers (cookie `group`); good for an hour, tagged `product-N`. A visitor
  without a session is given one, as shops do by mistake: that answer is nobody else's.
- `/c/N`: ten products, tagged with each of them.
- `/cart`, `/account`: a session's own. The cart forbids storing, the account says nothing of it.
- `POST /cart`: something is put into the cart.
- `/asked`: how many requests have been answered.

PRICES has one price for each product, 8 bytes each, and is read anew for each page, as a database would be.
"""

import asyncio
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
sys.dont_write_bytecode = True
from shop_day import IN_CATEGORY, page_of, price_at  # noqa: E402

TAKES = 0.08


class App:
    def __init__(self, name, prices):
        self.name, self.prices = name, os.open(prices, os.O_RDONLY)
        self.carts, self.asked, self.sessions = {}, 0, 0

    async def serve(self, reader, writer):
        try:
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path = lines[0].split()[:2]
                fields = dict((name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:]))
                if length := int(fields.get("content-length", 0)):
                    await reader.readexactly(length)
                fields, body = await self.answer(method, path, fields)
                head = "".join(f"{name}: {value}\r\n" for name, value in fields)
                writer.write(f"HTTP/1.1 200 OK\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer(self, method, path, fields):
        if path in ("/asked", "/healthz"):
            return [], str(self.asked)
        self.asked += 1
        cookies = dict(pair.strip().partition("=")[::2] for pair in fields.get("cookie", "").split(";"))
        session, group = cookies.get("session"), cookies.get("group", "all")
        await asyncio.sleep(TAKES)
        kind, _, number = path[1:].partition("/")
        if kind in ("cart", "account"):
            if method == "POST":
                self.carts[session] = self.carts.get(session, 0) + 1
            forbids = [("Cache-Control", "private, no-store")] if kind == "cart" else []
            return forbids, page_of(path, session or "nobody", self.carts.get(session, 0))
        products = [int(number)] if kind == "p" else [int(number) * IN_CATEGORY + n for n in range(IN_CATEGORY)]
        price = sum(price_at(self.prices, product) for product in products)
        said = [
            ("Cache-Control", "public, max-age=3600"),
            ("Surrogate-Key", " ".join(f"product-{product}" for product in products)),
        ]
        if session is None and "x-visitor" in fields:
            self.sessions += 1
            # For whoever has asked, though the page's own fields say that it is everybody's.
            session = f"{self.name}-{self.sessions}"
            return [*said, ("Set-Cookie", f"session={session}; Path=/; HttpOnly")], page_of(path, session, price)
        return said, page_of(path, group, price)


async def main():
    port, name, prices = sys.argv[1:4]
    app = App(name, prices)
    server = await asyncio.start_server(app.serve, "127.0.0.1", int(port), backlog=4096)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
