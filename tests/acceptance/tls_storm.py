"""Fifty reloads under everything at once, the end by SIGTERM, and what must be true afterwards."""

import asyncio
import signal
import statistics
import time
from collections import Counter

import grpc
import tls_grpc
from app import content
from clients import Tally, checked
from tls_scene import TlsConnection
from tls_tools import h2load
from tls_websocket import Talker

DWELL_S = 0.25


class Shopper:
    """Asks this and that over a TLS connection that it keeps; every reply is checked."""

    def __init__(self, number, scene, tally):
        self.who, self.scene, self.tally = f"shopper{number}", scene, tally
        self.number, self.stop = number, asyncio.Event()
        self.connection = TlsConnection(scene.where())
        self.task = asyncio.create_task(self.run())

    async def run(self):
        turn = self.number
        while not self.stop.is_set():
            turn += 1
            size = (0, 1, 300, 17000, 70000)[turn % 5]
            if turn % 3:
                await self.ask("GET", f"/bytes/{size}/{turn}", expect=content(size, turn))
            elif turn % 2:
                await self.ask("POST", "/echo", body=content(size, turn))
            else:
                await self.ask("GET", "/static/16k", expect=self.scene.files["16k"])
            await asyncio.sleep(0.03)
        self.connection.close()

    async def ask(self, method, path, **keys):
        await checked(self.connection, self.tally, self.who, method, path, host="shop.example", **keys)

    async def end(self):
        self.stop.set()
        await self.task


async def load(scene, stop, sums, wrong):
    """h2load again and again until told to stop."""
    while not stop.is_set():
        good, said = await h2load(scene, "/bytes/500/1", 1500, "--rps=60")
        sums["asked"] += 1500
        sums["good"] += good
        if good != 1500:
            wrong.append(f"{good} of 1500 good; it said\n{said[-800:]}")


# What each reload of the storm changes; in turns.
CHANGES = [
    ("weights", lambda conf, turn: [s.update(weight=50 + 50 * (i + turn) % 200) for i, s in enumerate(conf["pools"]["app"]["servers"])]),
    ("the order of certificates", lambda conf, _: conf["listeners"]["web"]["tls"]["certificates"].append(
        conf["listeners"]["web"]["tls"]["certificates"].pop(2))),
    ("balancing", lambda conf, turn: conf["pools"]["app"].update(balance=("random_two", "least_connections")[turn % 2])),
    ("drain", lambda conf, turn: [s.update(drain=i == turn % 2) for i, s in enumerate(conf["pools"]["static"]["servers"])]),
    ("HTTP/2 limits", lambda conf, turn: conf["listeners"]["web"].update(http2={"max_concurrent_streams": 100 + turn})),
    ("a listener comes or goes", lambda conf, _: conf["listeners"].pop("few", None) or conf["listeners"].update(few=conf["kept"])),
]


async def play(scene, report):
    check, balancer = report.check, scene.balancer
    tally, sums, missing, stop = Tally(), Counter(), [], asyncio.Event()
    shoppers = [Shopper(i, scene, tally) for i in range(8)]
    talkers = [await Talker(scene).open() for _ in range(6)]
    loading = asyncio.create_task(load(scene, stop, sums, missing))
    channel = streams = None
    if "h2_out" in scene.can:
        channel = scene.grpc_channel()
        streams = tls_grpc.Streams(tls_grpc.Stub(channel), 6)
    kept, first = balancer.conf["listeners"]["few"], len(balancer.reload_times_ms)
    for turn in range(scene.reloads):
        what, change = CHANGES[turn % len(CHANGES)]
        balancer.conf["kept"] = kept
        change(balancer.conf, turn // len(CHANGES))
        del balancer.conf["kept"]
        scene.put_swap(turn % 2)
        await balancer.reload()
        await asyncio.sleep(DWELL_S)
    times = balancer.reload_times_ms[first:]
    report.say(f"{len(times)} reloads, in force after {statistics.median(times):.0f} ms (median), {max(times):.0f} ms (most), "
               "as seen through /metrics")
    stop.set()
    await loading
    if streams:
        wrong = await streams.end()
        check(f"{len(times)} reloads: gRPC streams go on", not wrong and streams.messages > 500,
              "; ".join(wrong[:2]) or f"{streams.messages} messages")
        await channel.close()
    wrong = [w for w in [await t.end() for t in talkers] if w]
    check(f"{len(times)} reloads: WebSockets go on", not wrong, "; ".join(wrong[:2]) or f"{sum(t.echoed for t in talkers)} messages")
    for shopper in shoppers:
        await shopper.end()
    failed = Counter(f"{f.kind} {f.method} {f.path.split('/')[1]}: {f.detail}" for f in tally.failures)
    check(f"{len(times)} reloads: kept-alive TLS connections serve on", not failed and not tally.closed and tally.total() > 500,
          f"{tally.total()} requests, {len(tally.closed)} connections closed"
          + "".join(f"; {n} × {what}" for what, n in failed.most_common(3)))
    check(f"{len(times)} reloads: h2load, 0 failed", sums["good"] == sums["asked"] > 0,
          missing[0] if missing else f"{sums['asked']} requests over h2")
    await balancer.wait_metric(lambda s: not sum(v for (n, _), v in s.items() if n == "evenkeel_server_in_flight"), 15,
                               "every lease to be given back")
    check("every lease was given back", True)


async def terminate(scene, report):
    """SIGTERM: what runs is finished, h2 by GOAWAY; then it ends with 0."""
    check, balancer = report.check, scene.balancer
    tally = Tally()
    slow = asyncio.create_task(checked(TlsConnection(scene.where()), tally, "last", "POST", "/delay/1500", body=b"last order",
                                       may_close=True))
    over_h2 = asyncio.create_task(h2load(scene, "/delay/1200", 20))
    talker = await Talker(scene).open()
    calls = []
    if "h2_out" in scene.can:
        channel = scene.grpc_channel()
        calls = [asyncio.create_task(tls_grpc.ended(tls_grpc.Stub(channel).sleep(b"1500"))) for _ in range(5)]
    wanted = 1 + 20 + 1 + len(calls)
    await balancer.wait_metric(lambda s: sum(v for (n, _), v in s.items() if n == "evenkeel_server_in_flight") >= wanted, 10,
                               "the last requests to be in flight")
    balancer.process.signal(signal.SIGTERM)
    began = time.monotonic()
    check("SIGTERM: a request over TLS is finished", await slow is not None)
    good, said = await over_h2
    check("SIGTERM: requests over h2 are finished", good == 20, f"{good} of 20" if good == 20 else said[-500:])
    if calls:
        codes = Counter(code.name for code, _ in await asyncio.gather(*calls))
        check("SIGTERM: gRPC calls are finished", codes == {grpc.StatusCode.OK.name: 5}, str(dict(codes)))
        await channel.close()
    wrong = await talker.end()
    check("SIGTERM: a WebSocket goes on until it ends", not wrong, wrong)
    while balancer.process.running() and time.monotonic() - began < 25:
        await asyncio.sleep(0.02)
    code = balancer.process.popen.returncode
    check("it ends with 0 when all is done", code == 0, f"exit code {code} after {time.monotonic() - began:.1f} s")


def reckon(scene, report):
    check, said = report.check, scene.balancer.process.said()
    faults = [line for line in said.splitlines() if "panicked" in line or "a fault of our own" in line]
    check("no panic", not faults, "\n".join(faults[:5]))
    broken, total, bad, resumed = 0, 0, Counter(), Counter()
    for r in scene.balancer.log_records():
        total += 1
        if "broken" in r:
            broken += 1
            continue
        resumed[r.get("tls")] += 1
        # A server that nobody trusts, and a pool that was drained on purpose, answer so.
        if (r["status"] or 0) >= 500 and r["pool"] not in ("distrust", "grpc"):
            bad[f"{r['status']} {r['why']} {r['pool']}"] += 1
    check("the access log is whole", broken == 0, f"{total} records, {dict(resumed)}")
    check("no answer of 5xx but where it was asked for", not bad, str(dict(bad)))
