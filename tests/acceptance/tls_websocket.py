"""WebSockets through the balancer, by the Python package `websockets` at both ends."""

import asyncio
import os

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

PATIENCE_S = 20


def opening(scene, **keys):
    return connect(scene.url("/ws").replace("https", "wss"), host="127.0.0.1", port=scene.ports["web"], ssl=scene.context,
                   server_hostname="shop.example", max_size=8 << 20, ping_interval=None, proxy=None, **keys)


class Talker:
    """A WebSocket that goes on through whatever happens; every message is numbered and checked."""

    def __init__(self, scene):
        self.scene, self.stop, self.echoed = scene, asyncio.Event(), 0

    async def open(self):
        self.socket = await opening(self.scene)
        await self.socket.send("who")
        self.server = await asyncio.wait_for(self.socket.recv(), PATIENCE_S)
        self.task = asyncio.create_task(self.talk())
        return self

    async def talk(self):
        """What went wrong; an empty text if nothing did."""
        try:
            while not self.stop.is_set():
                message = os.urandom(200) if self.echoed % 2 else f"message {self.echoed} " * 40
                await self.socket.send(message)
                if await asyncio.wait_for(self.socket.recv(), PATIENCE_S) != message:
                    return f"message {self.echoed} came back changed"
                self.echoed += 1
                await asyncio.sleep(0.1)
            await self.socket.close(1000, "done")
            return "" if self.socket.close_code == 1000 else f"closed with {self.socket.close_code}"
        except (ConnectionClosed, asyncio.TimeoutError, OSError) as e:
            return f"after {self.echoed} messages: {e!r}"

    async def end(self):
        self.stop.set()
        return await self.task


async def play(scene, report):
    check = report.check
    async with opening(scene) as socket:
        await socket.send("who")
        server = await socket.recv()
        for message in ("text", "ünïcode", b"\x00binary", "", os.urandom(1 << 20), "x" * (1 << 20), os.urandom(4 << 20)):
            await socket.send(message)
            if await asyncio.wait_for(socket.recv(), PATIENCE_S) != message:
                check("WebSocket: messages up to 4 MiB come back", False, f"one of {len(message)} did not")
                break
        else:
            extensions = ", ".join(e.name for e in socket.protocol.extensions) or "no extension"
            check("WebSocket: messages up to 4 MiB come back", True, f"{server}, {extensions}")
        # A message in fragments, with a ping between them.
        pieces = [os.urandom(5000) for _ in range(20)]

        async def fragments():
            for piece in pieces:
                yield piece

        await socket.send(fragments())
        check("WebSocket: fragments", await asyncio.wait_for(socket.recv(), PATIENCE_S) == b"".join(pieces))
        pong = await socket.ping(b"are you there")
        check("WebSocket: ping and pong", await asyncio.wait_for(pong, PATIENCE_S) >= 0)
    check("WebSocket: closed by the client with 1000", socket.close_code == 1000, str(socket.close_code))
    for code, reason in ((1000, "bye"), (1011, "a fault"), (4321, "of our own")):
        async with opening(scene) as socket:
            await socket.send(f"close {code} {reason}")
            await asyncio.wait_for(socket.wait_closed(), PATIENCE_S)
        check(f"WebSocket: the server's close code {code}", (socket.close_code, socket.close_reason) == (code, reason),
              f"{socket.close_code} {socket.close_reason}")
    many = await asyncio.gather(*(Talker(scene).open() for _ in range(30)))
    homes = [t.server for t in many]
    wrong = [w for w in await asyncio.gather(*(t.end() for t in many)) if w]
    check("WebSocket: 30 at once, spread over the servers", not wrong and {homes.count("w1"), homes.count("w2")} == {15}, str(wrong[:3]))
    await drained(scene, report)


async def drained(scene, report):
    """A server that is taken out: its WebSockets go on until `drain_timeout`, and are then closed."""
    check, pool = report.check, scene.balancer.conf["pools"]["talk"]
    talkers = [await Talker(scene).open() for _ in range(6)]
    kept = list(pool["servers"])
    pool["servers"], pool["drain_timeout"] = kept[1:], "3s"
    leaving = [t for t in talkers if t.server == kept[0]["name"]]
    staying = [t for t in talkers if t not in leaving]
    await scene.balancer.reload()
    before = [t.echoed for t in leaving]
    while not all(t.echoed > b + 3 for t, b in zip(leaving, before)) and not any(t.task.done() for t in leaving):
        await asyncio.sleep(0.02)
    check("WebSocket: those of a removed server go on at first", len(leaving) == 3 and not any(t.task.done() for t in leaving))
    await asyncio.wait([t.task for t in leaving], timeout=15)
    # Going away is the word for it (RFC 6455 section 7.4.1); 1006 would be a connection that was cut.
    codes = [int(t.socket.close_code or 0) for t in leaving]
    check("WebSocket: and are closed with 1001 after drain_timeout", all(t.task.done() for t in leaving) and set(codes) == {1001},
          f"close codes {codes}")
    wrong = [w for w in [await t.end() for t in staying] if w]
    check("WebSocket: those of the other server are not touched", not wrong, str(wrong))
    pool["servers"], pool["drain_timeout"] = kept, "10m"
    await scene.balancer.reload()
    await scene.wait_up("talk", kept[0]["name"])
