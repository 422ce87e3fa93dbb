"""Before and after the reloads under load: thousands of idle connections, garbage, the end, and the access log's word."""

import asyncio
import signal
import time
from collections import Counter

from garbage import bad_hellos, bad_proxy_headers, good_proxy_headers, mutated, reset, throw_all
from idle import Crowd
from l4_judge import json_lines
from redis_client import Redis
from stage import open_files, resident_kib
from tls_client import client_hello

HELLO_DEADLINE_S = 1
# A deadline fires late by what the watchdog and this busy machine need.
SLACK_S = 1.5


async def off_the_loop(function, *arguments):
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)


# --- Idle connections -------------------------------------------------------------------------------------


async def settled(pid):
    """Resident KiB once they have stayed the same for a second."""
    await asyncio.sleep(1)
    known, since, end = resident_kib(pid), time.monotonic(), time.monotonic() + 5
    while time.monotonic() < min(since + 1, end):
        await asyncio.sleep(0.1)
        if (now := resident_kib(pid)) != known:
            known, since = now, time.monotonic()
    return known


async def crowd(s):
    scene, check, say, count = s.scene, s.check, s.say, s.args.idle
    conf, pid = s.balancer.conf, s.balancer.pid
    conf["listeners"]["idle"] = scene.listener("idle", pool="idle")
    conf["pools"]["idle"] = scene.pool("idle", ["e1", "e2"], drain_timeout="1s")
    await s.reload("add a listener for idle connections", counted=False)
    for name in ("e1", "e2"):
        await s.balancer.wait_up("idle", name)
    held = Crowd(scene.where("idle"))
    # What the first hundred cost is the same for everybody: it does not count.
    await off_the_loop(held.grow, 100)
    held.close()
    before = await settled(pid)
    began = time.monotonic()
    silent = await off_the_loop(held.grow, count)
    took = time.monotonic() - began
    check(f"{count} connections are open at once", silent == 0 and len(held.held) == count,
          f"{silent} silent; opened in {took:.1f} s, {open_files(pid)} open files")
    await asyncio.sleep(1.5)
    full = resident_kib(pid)
    say(f"memory (Pss): {before / 1024:.1f} MiB before, {full / 1024:.1f} MiB with {count} idle connections: "
        f"{(full - before) / count:.2f} KiB each")
    s.set_keys("idle", "e1", weight=90)
    await s.reload("reweight, under them", counted=False)
    check("all of them are there after a reload", (talk := await off_the_loop(held.talk)) == count, f"{talk}")
    s.set_keys("idle", "e2", drain=True)
    await s.reload("drain e2, under them", counted=False)
    check("all of them are there while a server drains", (talk := await off_the_loop(held.talk)) == count, f"{talk}")
    if s.is_evenkeel:
        on = {n: s.balancer.metric("evenkeel_server_in_flight", pool="idle", server=n) for n in ("e1", "e2")}
        check("each is counted on its server", sum(on.values()) == count, f"{on}")
        s.drop_server("idle", "e2")
        began = time.monotonic()
        await s.reload("remove e2, with a drain timeout of 1 s", counted=False)
        closed = await off_the_loop(held.drop_closed, on["e2"], 8)
        check("those of the removed server are closed at its drain timeout", closed == on["e2"],
              f"{closed} of {on['e2']:.0f} after {time.monotonic() - began:.1f} s")
        check("and no other", (talk := await off_the_loop(held.talk)) == count - closed, f"{talk}")
    await off_the_loop(held.close)
    after, end = resident_kib(pid), time.monotonic() + 6
    while after - before > (full - before) * 0.2 and time.monotonic() < end:
        await asyncio.sleep(0.25)
        after = resident_kib(pid)
    say(f"memory (Pss): {after / 1024:.1f} MiB after they closed, {open_files(pid)} open files")
    if s.is_evenkeel:
        check("the memory of closed connections is given back", after - before <= max((full - before) * 0.35, 4096),
              f"{before / 1024:.1f} → {full / 1024:.1f} → {after / 1024:.1f} MiB")
        await s.balancer.wait_metric(lambda m: all(v == 0 for (n, l), v in m.items() if n == "evenkeel_server_in_flight"), 10,
                                     "no lease to be left")


# --- Garbage ----------------------------------------------------------------------------------------------

# A parser that reads only what it needs may let the server judge these; the others never reach one.
FOR_THE_SERVER = {"a session id beyond 32 bytes", "no cipher suites", "an odd length of cipher suites", "a record of SSL 2.1"}


def counted_faults(balancer, listener):
    """The sum of all of a listener's counters that count what went wrong with connections."""
    return sum(v for (n, labels), v in balancer.scrape().items()
               if n.endswith("_total") and ("listener", listener) in labels and dict(labels).get("why", "ok") != "ok")


async def garbage(s):
    scene, conf = s.scene, s.balancer.conf
    def deadline():
        return {"timeouts": {"tls_handshake": f"{HELLO_DEADLINE_S}s"}}

    if "idle" in conf["pools"]:
        conf["pools"]["idle"] = scene.pool("idle", ["e1"])
    where = {}
    if "tls_passthrough" in s.can:
        conf["listeners"]["garbage_tls"] = scene.listener("garbage_tls", "tls_passthrough", routes="known", **deadline())
        conf["routes"]["known"] = [{"name": "known", "match": {"host": "known.shop.example"}, "pool": "a"}]
        where["garbage_tls"] = (bad_hellos("known.shop.example"),
                                [client_hello("known.shop.example"), client_hello("known.shop.example", ["h2", "http/1.1"])])
    if "proxy_protocol" in s.can:
        said = {"proxy_protocol": {"from": ["127.0.0.1/32"]}}
        conf["listeners"]["garbage_proxy"] = scene.listener("garbage_proxy", pool="idle", **said, **deadline())
        conf["listeners"]["garbage_http"] = scene.listener("garbage_http", "http", pool="app", **said, **deadline())
        # A good header before half a request is a case for this one.
        conf["listeners"]["garbage_http"]["timeouts"]["request_header"] = f"{HELLO_DEADLINE_S}s"
        good = [h + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" for h in good_proxy_headers()]
        where["garbage_proxy"] = where["garbage_http"] = (bad_proxy_headers(), good)
    if not where:
        return
    await s.reload("add listeners for garbage", counted=False)
    await asyncio.gather(*(one_kind_of_garbage(s, name, *kinds) for name, kinds in where.items()))
    s.check("after all the garbage it lives and serves", s.balancer.process.running()
            and await (await Redis(scene.where("redis")).open()).port() > 0)


async def one_kind_of_garbage(s, name, by_hand, samples):
    address, patience = s.scene.where(name), HELLO_DEADLINE_S + SLACK_S
    before = await off_the_loop(counted_faults, s.balancer, name) if s.is_evenkeel else 0
    records_before = count_records(s, name)
    outcomes = await throw_all(address, by_hand, patience)
    late = [o.what for o in outcomes if o.closed_after_s < 0 and s.is_evenkeel]
    passed_on = [f"{o.what}: {o.answered[:30]!r}" for o in outcomes
                 if o.answered and o.what not in FOR_THE_SERVER and not refusal(name, o.answered)]
    s.check(f"{name}: {len(by_hand)} made by hand are closed by the deadline of {HELLO_DEADLINE_S} s", not late, f"late: {late}" if late else "")
    s.check(f"{name}: and none is passed on", not passed_on, "; ".join(passed_on[:5]))
    slow = await throw_all(address, by_hand[1:8], patience, manner="trickled")
    late = [o.what for o in slow if o.closed_after_s < 0 and s.is_evenkeel]
    s.check(f"{name}: a byte now and then does not put the deadline off", not late, f"late: {late}" if late else "")
    half = await throw_all(address, by_hand, patience, manner="then half-closed")
    late = [o.what for o in half if o.closed_after_s < 0]
    s.check(f"{name}: half-closed ones are closed as well", not late, f"late: {late}" if late else "")
    for _, data in by_hand:
        await off_the_loop(reset, address, data)
    if s.is_evenkeel:
        # Those with no byte at all may be port scans, and the resets are over before anybody can judge them.
        wanted = len(by_hand) + len(slow) + len(half) - 2
        await counted_and_logged(s, name, before, records_before, wanted)
    random_ones = list(mutated(samples, s.args.mutations, f"{s.args.seed} {name}"))
    # Two deadlines in a row where HTTP follows.
    outcomes = await throw_all(address, random_ones, patience + HELLO_DEADLINE_S, manner="with a nudge", at_once=200)
    late = [o.what for o in outcomes if o.closed_after_s < 0 and not o.answered and s.is_evenkeel]
    answered = sum(1 for o in outcomes if o.answered)
    s.check(f"{name}: {len(random_ones)} random ones (seed {s.args.seed}) are closed or served", not late and s.balancer.process.running(),
            f"{answered} were answered" + (f"; late: {late[:10]}" if late else ""))


def refusal(name, answered):
    """What evenkeel itself may say before it closes: a TLS alert, an HTTP error."""
    return answered.startswith(b"\x15\x03") if name == "garbage_tls" else answered.startswith(b"HTTP/1.1 4")


def count_records(s, listener):
    return sum(1 for r in s.balancer.log_records() if r.get("listener") == listener) if s.is_evenkeel else 0


async def counted_and_logged(s, name, before, records_before, wanted):
    end = time.monotonic() + 5
    while True:
        counted = await off_the_loop(counted_faults, s.balancer, name) - before
        logged = [r for r in s.balancer.log_records() if r.get("listener") == name][records_before:]
        told = [r for r in logged if r.get("why") not in (None, "ok")]
        if (counted >= wanted and len(told) >= wanted) or time.monotonic() > end:
            break
        await asyncio.sleep(0.2)
    s.check(f"{name}: every one has moved a counter", counted >= wanted, f"{counted:.0f} counted, at least {wanted} wanted")
    s.check(f"{name}: every one has a line in the log", len(told) >= wanted,
            f"{len(told)} lines, at least {wanted} wanted; {dict(Counter(r['why'] for r in told))}")
    reached = [r for r in logged if r.get("server") and r.get("why") == "ok"]
    s.check(f"{name}: the log names no server for them", len(reached) <= 3 * len(FOR_THE_SERVER), f"{len(reached)} do" if reached else "")


# --- The end ----------------------------------------------------------------------------------------------


async def terminate(s):
    if not s.is_evenkeel:
        return
    where, process = s.scene.where("redis"), s.balancer.process
    connection = await Redis(where).open()
    # Two that drip for as long as their client likes, and some of all kinds.
    s.load = s.start_load("last", "--streams", 3, "--long", 2)
    await asyncio.sleep(0.6)
    began = time.monotonic()
    s.balancer.process.signal(signal.SIGTERM)
    s.say("SIGTERM")
    refused = not await s.until_refused(s.scene.ports["redis"])
    s.check("while stopping, new connections are refused", refused)
    s.check("while stopping, an open connection goes on", await connection.command("SET", "last", "1") == b"OK")
    s.load.signal(signal.SIGTERM)
    await s.wait_for_end(s.load, 40)
    # Those that began after the listeners closed were refused, as they should be.
    whole = sum(1 for r in json_lines(s.load.said()) if r.get("fault") == "")
    cut = [r for r in json_lines(s.load.said()) if r.get("fault") and "refused" not in r["fault"].lower()]
    s.check("streams that were open at SIGTERM came to their end", not cut and whole, f"{cut[:3]}" if cut else f"{whole} streams")
    connection.close()
    while process.running() and time.monotonic() - began < 33:
        await asyncio.sleep(0.02)
    s.check("it ends with 0 when all is done", process.popen.returncode == 0,
            f"exit code {process.popen.returncode} after {time.monotonic() - began:.1f} s")


# --- The access log ---------------------------------------------------------------------------------------


def reckon(s):
    said = s.balancer.process.said()
    faults = [line for line in said.splitlines() if "panicked" in line or "a fault of our own" in line]
    s.check("no panic", not faults, "\n".join(faults[:5]))
    broken, wrong_server, whys, streams, total = 0, [], Counter(), [], 0
    for r in s.balancer.log_records():
        if "broken" in r:
            broken += 1
            continue
        total += 1
        if not str(r.get("listener")).startswith("garbage"):
            whys[f"{r.get('listener')} {r.get('why')}"] += r.get("why") != "ok"
        if r.get("listener") in ("streams", "bulk"):
            streams.append(r)
        known = s.balancer.generations.get(r.get("generation"))
        if r.get("server") and known and known.get(r["pool"], {}).get(r["server"], "absent") != "ready":
            wrong_server.append((r["generation"], r["pool"], r["server"], r["time"]))
    s.check("no connection went to a drained or removed server", not wrong_server, f"{len(wrong_server)}, such as {wrong_server[:3]}"
            if wrong_server else f"{total} records")
    s.check("the access log is whole", broken == 0, f"{broken} broken")
    s.say(f"why connections ended, other than ok: { {k: v for k, v in whys.items() if v} }")
    # The last streams, of the stop, were not judged with the others.
    up, down = s.stream_bytes
    logged_up, logged_down = sum(r["bytes_in"] for r in streams), sum(r["bytes_out"] for r in streams)
    s.check("the log has a record for each stream, and its bytes", len(streams) >= s.streams and logged_up >= up and logged_down >= down,
            f"{len(streams)} records of {s.streams} streams or more, {logged_down} of {down} bytes or more")
