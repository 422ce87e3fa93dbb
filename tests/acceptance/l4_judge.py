"""The judgement of what the load of the layer 4 run saw, once the last reload was made."""

import asyncio
import json
import random
import signal
import statistics
import time
from collections import Counter

from l4_scene import FRONTS


def json_lines(text):
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield record


class Judge:
    """The half of the scenario that looks back."""

    async def end(self):
        if self.bulk:
            await self.wait_for_end(self.bulk, 120)
        self.load.signal(signal.SIGTERM)
        await self.redis.end()
        for users in self.users.values():
            await users.end()
        await self.wait_for_end(self.load, 60)
        self.judge_redis()
        for what, users in self.users.items():
            self.check(f"{what}: nothing failed", not users.faults and users.done > 0,
                       f"{users.done} answers, {len(users.faults)} faults" + "".join(f"\n         {f}" for f in users.faults[:6]))
        if "TLS by name" in self.users:
            pieces = self.users["TLS by name"].pieces
            self.check("ClientHellos in pieces and in many records arrive", all(pieces.values()), f"{pieces}")
        if "PROXY" in self.users:
            await self.judge_proxy()
        await self.judge_streams()
        port = await self.sleeper.port()
        self.check("a connection that slept through all reloads is on its server", port == self.sleeper_port)
        self.sleeper.close()
        times = self.balancer.reload_times_ms
        self.check(f"{self.args.reloads} reloads were made", self.reloads == self.args.reloads,
                   f"in force after {statistics.median(times):.0f} ms (median), {max(times):.0f} ms (most)")
        if self.is_evenkeel:
            await self.balancer.wait_metric(
                lambda s: all(v == 0 for (n, _), v in s.items() if n == "evenkeel_server_in_flight"), 15, "no lease to be left")
            self.check("at rest no server has a connection", True)

    async def wait_for_end(self, process, deadline_s):
        end = time.monotonic() + deadline_s
        while process.running():
            if time.monotonic() > end:
                raise TimeoutError(f"{process.name} did not finish:\n{process.said()[-500:]}")
            await asyncio.sleep(0.05)

    def judge_redis(self):
        users = self.redis
        self.check("Redis: no error, and no connection moved", not users.faults and users.answered > 0,
                   f"{users.answered} commands over {users.connections} connections, {len(users.faults)} faults"
                   + "".join(f"\n         {f}" for f in users.faults[:6]))
        if "tcp_probe" in self.can and self.is_evenkeel:
            r4 = self.balancer.metric("evenkeel_server_up", pool="redis", server="r4")
            self.check("a Redis that accepts but does not say +PONG is down", r4 == 0, f"{r4}")

    async def judge_proxy(self):
        """Every front with every target at least once."""
        users = self.users["PROXY"]
        faults = []
        for front in FRONTS:
            for target in users.targets():
                if (front, target) not in users.through:
                    try:
                        await users.once(random.Random(1), front, target)
                    except Exception as e:
                        faults.append(str(e))
        self.check("the client's address came through every front and every way behind", not faults,
                   f"{len(users.through)} ways, {sum(users.through.values())} times" + "".join(f"\n         {f}" for f in faults[:6]))
        probes = Counter(seen for seen in self.scene.catcher.seen if seen[1] in ("LOCAL", "UNKNOWN"))
        bare = [seen for seen in self.scene.catcher.seen if seen[0] == "none" and seen[1]]
        self.check("probes say that they speak for nobody (v1 UNKNOWN, v2 LOCAL)",
                   probes[("v2", "LOCAL")] > 0 and probes[("v1", "UNKNOWN")] > 0 and not bare or not self.is_evenkeel,
                   f"{dict(probes)}, {len(bare)} without a header")

    async def judge_streams(self):
        """Each end's word for each half, held against the other end's."""
        clients = []
        for process in filter(None, (self.load, self.bulk)):
            clients += [r for r in json_lines(process.said()) if "id" in r]
            self.check(f"{process.name}: came to its end by itself", process.popen.returncode == 0, process.said()[-300:]
                       if process.popen.returncode else "")
        # A client may be done while the server still reads, slowly, what is on its way.
        end = time.monotonic() + 20
        while True:
            servers = {r.get("id"): r for name in ("s1", "s2", "s3") for r in json_lines(self.scene.servers[name].process.said())}
            if all(c["id"] in servers for c in clients) or time.monotonic() > end:
                break
            await asyncio.sleep(0.2)
        faults, bytes_up, bytes_down = [], 0, 0
        for c in clients:
            s = servers.get(c["id"])
            bytes_up, bytes_down = bytes_up + c["sent"][0], bytes_down + c["got"][0]
            if c["fault"] or s is None or s["fault"] or c["sent"] != s["got"] or c["got"] != s["sent"]:
                faults.append(f"{c['id']} {c['mode']}: sent {c['sent'][0]}, got {c['got'][0]}, {c['fault']}; server: "
                              + (f"sent {s['sent'][0]}, got {s['got'][0]}, {s['fault']}" if s else "never saw it"))
        self.streams, self.stream_bytes = len(clients), (bytes_up, bytes_down)
        modes = Counter(c["mode"] for c in clients)
        slow = sum(1 for c in clients if c["slow"])
        self.check("streams: every byte came through, both ways, half-close honoured", not faults and modes["long"] == 4,
                   f"{dict(modes)}, {slow} of them slow; {bytes_up >> 20} MiB up, {bytes_down >> 20} MiB down, {len(faults)} faults"
                   + "".join(f"\n         {f}" for f in faults[:8]))
        bulk = next((c for c in clients if c["id"] == "bulk-bulk"), None)
        self.check("the bulk stream: both ways at once, whole", bulk is not None and bulk["got"][0] == self.args.bulk == bulk["sent"][0],
                   f"{self.args.bulk >> 20} MiB each way in {bulk['seconds']:.1f} s, "
                   f"{2 * self.args.bulk / 1e6 / max(bulk['seconds'], 0.001):.0f} MB/s" if bulk else "never ended")
