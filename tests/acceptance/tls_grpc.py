"""gRPC through the balancer: grpcio, the library of many languages, at both ends, and its standard health service."""

import asyncio

import grpc

SERVICE = "/evenkeel.Test/"
PATIENCE_S = 20


class Stub:
    """The methods of tls_grpc_server.py; messages are bytes."""

    def __init__(self, channel):
        for name in ("Echo", "Fail", "Sleep", "Cancelled", "Serving"):
            setattr(self, name.lower(), channel.unary_unary(SERVICE + name))
        self.count = channel.unary_stream(SERVICE + "Count")
        self.sum = channel.stream_unary(SERVICE + "Sum")
        self.chat = channel.stream_stream(SERVICE + "Chat")


def field(metadata, name):
    return next((value for key, value in metadata or () if key == name), None)


async def ended(call):
    """(code, text) that a call ends with."""
    try:
        await asyncio.wait_for(call, PATIENCE_S)
        return grpc.StatusCode.OK, ""
    except grpc.aio.AioRpcError as e:
        return e.code(), e.details()


class Streams:
    """Streams both ways that go on through whatever happens; every message is numbered and checked."""

    def __init__(self, stub, count):
        self.stub, self.stop, self.messages = stub, asyncio.Event(), 0
        self.tasks = [asyncio.create_task(self.chat(i)) for i in range(count)]
        self.listening = asyncio.create_task(self.listen())

    async def chat(self, who):
        """What went wrong; an empty text if nothing did."""
        call, number = self.stub.chat(), 0
        try:
            while not self.stop.is_set():
                message = f"{who} {number} ".encode() * 20
                await call.write(message)
                got = await asyncio.wait_for(call.read(), PATIENCE_S)
                if got != message:
                    return f"stream {who}: message {number} came back as {got!r:.80}"
                number += 1
                self.messages += 1
                await asyncio.sleep(0.05)
            await call.done_writing()
            end = await asyncio.wait_for(call.read(), PATIENCE_S)
            return "" if end is grpc.aio.EOF and await call.code() is grpc.StatusCode.OK else f"stream {who} ended with {end!r:.80}"
        except grpc.aio.AioRpcError as e:
            return f"stream {who} after {number} messages: {e.code().name} {e.details()}"
        except asyncio.TimeoutError:
            return f"stream {who} after {number} messages: silent for {PATIENCE_S} s"

    async def listen(self):
        call, number = self.stub.count(b"100000 100"), 0
        try:
            while not self.stop.is_set():
                got = await asyncio.wait_for(call.read(), PATIENCE_S)
                if got != str(number).encode():
                    return f"listener: message {number} was {got!r:.80}"
                number += 1
                self.messages += 1
        except grpc.aio.AioRpcError as e:
            return f"listener after {number} messages: {e.code().name} {e.details()}"
        except asyncio.TimeoutError:
            return f"listener after {number} messages: silent for {PATIENCE_S} s"
        call.cancel()
        return ""

    async def end(self):
        self.stop.set()
        return [wrong for wrong in await asyncio.gather(*self.tasks, self.listening) if wrong]


async def calls(scene, report, stub):
    check = report.check
    call = stub.echo(b"hello")
    good = await call == b"hello"
    trailing = await call.trailing_metadata()
    check("gRPC: unary, with trailing fields", good and field(trailing, "x-server") in ("g1", "g2")
          and field(trailing, "x-note-bin") == b"\x00\xff", str(trailing))
    sizes = [0, 1, 16384, 65536, 1 << 20, 16 << 20]
    for size in sizes:
        message = bytes(range(256)) * (size // 256 + 1)
        if await asyncio.wait_for(stub.echo(message[:size]), PATIENCE_S) != message[:size]:
            check("gRPC: messages of all sizes come back", False, f"{size} bytes did not")
            break
    else:
        check("gRPC: messages of all sizes come back", True, f"up to {max(sizes) >> 20} MiB")

    numbers = [int(m) async for m in stub.count(b"2000 0")]
    check("gRPC: a server's stream", numbers == list(range(2000)))

    async def messages():
        for i in range(500):
            yield b"x" * i

    got = await asyncio.wait_for(stub.sum(messages()), PATIENCE_S)
    check("gRPC: a client's stream", got == f"500 {sum(range(500))}".encode(), got.decode())
    call, wrong = stub.chat(), 0
    for i in range(500):
        await call.write(str(i).encode())
        wrong += await asyncio.wait_for(call.read(), PATIENCE_S) != str(i).encode()
    await call.done_writing()
    check("gRPC: streams both ways", wrong == 0 and await call.read() is grpc.aio.EOF and await call.code() is grpc.StatusCode.OK)

    wrong = []
    for code in grpc.StatusCode:
        if code is not grpc.StatusCode.OK:
            got = await ended(stub.fail(f"{code.value[0]} because 100 % of {code.name} – ütf".encode()))
            if got != (code, f"because 100 % of {code.name} – ütf"):
                wrong.append(f"{code.name} came as {got}")
    check("gRPC: all 16 statuses with their texts", not wrong, "; ".join(wrong[:3]))

    together = await asyncio.gather(*(stub.echo(str(i).encode()) for i in range(300)))
    check("gRPC: 300 calls at once over one connection", together == [str(i).encode() for i in range(300)])
    signed = []
    for i in range(20):
        call = stub.echo(b"")
        await call
        signed.append(field(await call.trailing_metadata(), "x-server"))
    check("gRPC: calls of one connection go to both servers", {signed.count(n) for n in ("g1", "g2")} == {10}, str(signed))


async def deadlines(scene, report, stub, direct):
    check = report.check
    loop = asyncio.get_running_loop()

    async def cancelled():
        return sum([int(await d.cancelled(b"")) for d in direct.values()])

    before, began = await cancelled(), loop.time()
    code, _ = await ended(stub.sleep(b"10000", timeout=0.4))
    took = loop.time() - began
    check("gRPC: a deadline passes", code is grpc.StatusCode.DEADLINE_EXCEEDED and took < 5, f"{code.name} after {took:.2f} s")
    call = stub.sleep(b"10000")
    await asyncio.sleep(0.2)
    call.cancel()
    end = loop.time() + 5
    while await cancelled() < before + 2 and loop.time() < end:
        await asyncio.sleep(0.05)
    heard = await cancelled() - before
    check("gRPC: the server hears of a deadline and of a cancelled call", heard == 2, f"{heard} of 2")


async def health(scene, report, stub, direct):
    """A server that says NOT_SERVING gets no calls, yet its streams go on; it comes back when it serves."""
    check = report.check
    call = stub.chat()
    await call.write(b"first")
    await call.read()
    home = field(await call.initial_metadata(), "x-server")
    other = "g2" if home == "g1" else "g1"
    await direct[home].serving(b"no")
    await scene.wait_up("grpc", home, up=False)
    signed = set()
    for _ in range(20):
        each = stub.echo(b"")
        await each
        signed.add(field(await each.trailing_metadata(), "x-server"))
    check("gRPC: a server that is NOT_SERVING gets no calls", signed == {other}, str(signed))
    await call.write(b"second")
    check("gRPC: its streams go on", await asyncio.wait_for(call.read(), PATIENCE_S) == b"second")
    await call.done_writing()
    await direct[home].serving(b"yes")
    await scene.wait_up("grpc", home)
    check("gRPC: it is used again when it serves", True)


async def errors(scene, report, stub):
    """What the balancer itself answers, as a status and not as HTTP."""
    check = report.check
    pool = scene.balancer.conf["pools"]["grpc"]
    kept = pool["servers"]
    pool["servers"] = [{**s, "drain": True} for s in kept]
    await scene.balancer.reload()
    code, text = await ended(stub.echo(b""))
    check("gRPC: without a server the status is UNAVAILABLE", code is grpc.StatusCode.UNAVAILABLE, f"{code.name}: {text}")
    pool["servers"] = kept
    await scene.balancer.reload()
    check("gRPC: and it is served again", (await ended(stub.echo(b"")))[0] is grpc.StatusCode.OK)


async def play(scene, report):
    async with scene.grpc_channel() as channel:
        stub = Stub(channel)
        inner = {n: grpc.aio.insecure_channel(f"127.0.0.1:{scene.servers[n].port}") for n in ("g1", "g2")}
        direct = {n: Stub(c) for n, c in inner.items()}
        await calls(scene, report, stub)
        await deadlines(scene, report, stub, direct)
        if "grpc_probe" in scene.can:
            await health(scene, report, stub, direct)
        await errors(scene, report, stub)
        for each in inner.values():
            await each.close()
    written = [r for r in scene.balancer.log_records() if r.get("pool") == "grpc"]
    statuses = {r["grpc_status"] for r in written if "grpc_status" in r}
    report.check("gRPC: the access log has each call's status", len(statuses) > 10, f"{len(written)} records, statuses {statuses}")
