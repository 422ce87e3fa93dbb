"""A thousand certificates, and one that is swapped while clients shake hands."""

import asyncio
import hashlib
import os
import random
import socket
import statistics
import time
from pathlib import Path

ROUNDS = 5
HANDSHAKES = 200
RATE = 200
SWAPS = 10


def cpu_ns(pid):
    """CPU time of all threads, exact to the nanosecond where /proc/PID/stat counts in hundredths of a second."""
    return sum(int(Path(f"/proc/{pid}/task/{t}/schedstat").read_text().split()[0]) for t in os.listdir(f"/proc/{pid}/task"))


def shake(port, context, name):
    """SHA-256 of the certificate that is shown for the name; it is checked."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
        with context.wrap_socket(plain, server_hostname=name) as tls:
            return hashlib.sha256(tls.getpeercert(binary_form=True)).hexdigest()


def shakes(scene, listener, count, among):
    """CPU µs of the balancer for each of so many handshakes, and how many certificates were the wrong ones."""
    pid, wrong = scene.balancer.pid, 0
    before = cpu_ns(pid)
    for _ in range(count):
        i = random.randrange(among)
        wrong += shake(scene.ports[listener], scene.context, f"m{i}.many.example") != scene.many[i].fingerprint
    return (cpu_ns(pid) - before) / 1000 / count, wrong


async def cost(scene, report):
    """What a handshake costs with one certificate and with a thousand, in turns."""
    found, wrong = {"few": [], "many": []}, 0
    for listener, among in (("few", 1), ("many", len(scene.many))):
        await asyncio.to_thread(shakes, scene, listener, 50, among)
    for _ in range(ROUNDS):
        for listener, among in (("few", 1), ("many", len(scene.many))):
            micros, bad = await asyncio.to_thread(shakes, scene, listener, HANDSHAKES, among)
            found[listener].append(micros)
            wrong += bad
    few, many = (statistics.median(found[n]) for n in ("few", "many"))
    report.check(f"{len(scene.many)} certificates: each name is shown its own", wrong == 0, f"{ROUNDS * HANDSHAKES} handshakes")
    # Generous: it is about a search that grows with the number, not about this machine's noise.
    report.check(f"{len(scene.many)} certificates: a handshake costs what it costs with one", many < 1.5 * few,
                 f"CPU {few:.0f} µs with 1, {many:.0f} µs with {len(scene.many)}, ratio {many / few:.2f}")
    return few, many


async def reload_time(scene, report):
    """How long a reload takes with a thousand certificates and without them."""
    balancer, times = scene.balancer, {}
    with_all = balancer.conf["listeners"]["many"]["tls"]["certificates"]
    for what, certificates in (("all", with_all), ("one", with_all[:1])):
        for _ in range(4):
            balancer.conf["listeners"]["many"]["tls"]["certificates"] = certificates
            await balancer.reload()
            times.setdefault(what, []).append(balancer.reload_times_ms[-1])
    balancer.conf["listeners"]["many"]["tls"]["certificates"] = with_all
    await balancer.reload()
    one, every = (statistics.median(times[w]) for w in ("one", "all"))
    report.check(f"{len(scene.many)} certificates: a reload takes well under a second", every < 1000,
                 f"{one:.0f} ms with 1, {every:.0f} ms with {len(scene.many)} (medians of 4, as seen through /metrics)")


async def swap(scene, report):
    """A certificate is replaced again and again while 200 clients a second shake hands: none fails."""
    shown, failures, slowest = {}, [], 0.0
    by_print = {c.fingerprint: i for i, c in enumerate(scene.swaps)}
    seconds = SWAPS * 0.5
    port, loop = scene.ports["swap"], asyncio.get_running_loop()

    async def one():
        nonlocal slowest
        began = loop.time()
        try:
            opening = asyncio.open_connection("127.0.0.1", port, ssl=scene.context, server_hostname="swap.example")
            _, writer = await asyncio.wait_for(opening, 20)
            der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            which = by_print.get(hashlib.sha256(der).hexdigest(), "another")
            shown[which] = shown.get(which, 0) + 1
            writer.close()
        except (OSError, asyncio.TimeoutError) as e:
            failures.append(repr(e))
        slowest = max(slowest, loop.time() - began)

    async def crowd():
        running, began = [], loop.time()
        for i in range(int(seconds * RATE)):
            await asyncio.sleep(max(0, began + i / RATE - loop.time()))
            running.append(asyncio.create_task(one()))
        await asyncio.gather(*running)
        return len(running) / (loop.time() - began)

    hands = asyncio.create_task(crowd())
    for number in range(SWAPS):
        scene.put_swap((number + 1) % 2)
        await scene.balancer.reload()
        # Told apart by a client of its own: the certificate of now is in force.
        got = await asyncio.to_thread(shake, port, scene.context, "swap.example")
        if by_print.get(got) != (number + 1) % 2:
            failures.append(f"after swap {number + 1} the certificate of before is still shown")
        await asyncio.sleep(0.4)
    rate = await hands
    total = sum(shown.values())
    none_failed = not failures and total == int(seconds * RATE)
    report.check(f"a certificate swapped {SWAPS} times under {RATE} handshakes/s: none fails", none_failed,
                 failures[0] if failures else f"{total} handshakes, {rate:.0f}/s, the slowest {slowest * 1000:.0f} ms")
    report.check("both certificates were shown", set(shown) == {0, 1}, str(shown))


async def play(scene, report):
    await cost(scene, report)
    await reload_time(scene, report)
    await swap(scene, report)
