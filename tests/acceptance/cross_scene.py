"""The scene of the cross trials: servers, the configuration that every round begins with, and what must hold at rest."""

import asyncio
import json
import socket
import time

from clients import Bad
from cross_model import Broken, Model
from l4_servers import Certificate
from operated import Operated, Pulse
from stage import anonymous_kib, free_ports, open_files
from traffic import Traffic
from traffic_servers import HttpServer, Notebook, TcpServer, UdpServer

POOLS = {"app": ["a1", "a2", "a3", "a4"], "lone": ["l1", "l2"], "tcp": ["t1", "t2"], "udp": ["u1", "u2"]}
PROBES = {"tcp": {"tcp": {"send": "PING\r\n", "expect": "+PONG"}}, "udp": {"udp": {"send": "PING", "expect": "PONG"}}}
LISTENERS = ["web", "tls", "lone", "tcp", "udp", "pop"]
# How long what was said may take until it shows, on a busy machine.
DEADLINE_S = 12


def free_udp_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Scene:
    def __init__(self, stage, binary, pace):
        self.stage, self.binary, self.pace = stage, binary, pace
        self.model, self.notebook = Model(), Notebook(lambda *request: self.model.judge(*request))
        self.ports = {}
        self.certificate = Certificate(stage.dir, "web", ["app.example"])
        self.servers = {}
        # How long what is left to a process that was replaced, or to a server that was removed, may go on.
        self.patience = {"shutdown_timeout": "30s", "drain_timeout": "20s"}
        self.balancer = self.traffic = None

    def where(self, listener):
        return ("127.0.0.1", self.ports[listener])

    async def start_servers(self):
        kinds = {"tcp": TcpServer, "udp": UdpServer}
        for pool, names in POOLS.items():
            for name in names:
                self.servers[name] = await kinds.get(pool, HttpServer)(name, self.notebook).start()
        # One that joins, one that a2 moves to, and two that answer probes well and nobody else.
        for name, called in (("a5", "a5"), ("a2-moved", "a2"), ("cuts", "cuts"), ("silent", "silent")):
            self.servers[name] = await HttpServer(called, self.notebook).start()
        # Chosen last: servers that start later might be given one of these.
        self.ports = dict(zip([*LISTENERS, "dead", "taken"], free_ports(len(LISTENERS) + 2)))
        self.ports["udp"] = free_udp_port()
        self.servers["cuts"].manner.requests, self.servers["silent"].manner.requests = "cut", "silent"

    # The configuration.

    def server(self, name, at=None, **keys):
        port = self.ports[at] if at in self.ports else self.servers[at or name].port
        return {"name": name, "address": f"127.0.0.1:{port}", "weight": 100, **keys}

    def pool(self, name):
        health = {**PROBES.get(name, {"http": "/healthz"}), "interval": "150ms", "timeout": "800ms", "fall": 2, "rise": 1}
        return {"balance": {"lone": "round_robin"}.get(name, "least_connections"),
                "servers": [self.server(s) for s in POOLS[name]], "health": health,
                "retries": {"max": 2, "budget": "20%", "on": ["connect", "reset"]},
                "timeouts": {"connect": "2s", "keepalive": "1s"}, "drain_timeout": self.patience["drain_timeout"]}

    def listener(self, name, pool, protocol="http"):
        entry = {"address": f"127.0.0.1:{self.ports[name]}", "protocol": protocol, "pool": pool,
                 "limits": {"connections_per_client": None}}
        if protocol == "udp":
            # A session ends with silence: an answer that this busy run gives late must still find it.
            entry["timeouts"] = {"idle": "1500ms"}
        return entry

    def base(self):
        listeners = {"web": self.listener("web", "app"), "lone": self.listener("lone", "lone"), "tls": self.listener("tls", "app"),
                     "tcp": self.listener("tcp", "tcp", "tcp"), "udp": self.listener("udp", "udp", "udp")}
        listeners["web"]["timeouts"] = {"request_header": "2s"}
        listeners["tls"]["tls"] = {"certificates": [{"cert": str(self.certificate.path), "key": str(self.certificate.key)}]}
        return {
            "process": {"threads": 2, "max_connections": 4000, "shutdown_timeout": self.patience["shutdown_timeout"]},
            "admin": self.balancer.admin_section(),
            "access_log": {"path": str(self.balancer.access_log)},
            "events": {"path": str(self.balancer.events_path)},
            "listeners": listeners, "pools": {name: self.pool(name) for name in POOLS}}

    # Beginning, and beginning anew after something broke.

    async def begin(self, seed):
        self.model = Model()
        for pool, names in POOLS.items():
            for name in names:
                self.model.add(pool, name)
        self.balancer = Operated(self.stage, self.binary)
        for path in (self.balancer.events_path, self.stage.dir / "state.json"):
            path.unlink(missing_ok=True)
        self.events_read = 0
        for server in self.servers.values():
            server.manner.turn("pass")
        self.balancer.conf = self.base()
        await self.balancer.start()
        await self.agrees()
        self.traffic = Traffic(self, self.pace)
        self.traffic.start(seed)
        self.pulse = Pulse(self.balancer).start()

    async def leave(self):
        self.pulse.stopped.set()
        self.balancer.kill()
        self.pulse.thread.join()
        for task in [*self.traffic.tasks, self.traffic.watch]:
            task.cancel()
        await asyncio.gather(*self.traffic.tasks, return_exceptions=True)
        # Servers see their connections end, and have nothing to do when the run is over.
        end = time.monotonic() + 2
        while any(server.connections for server in self.servers.values()) and time.monotonic() < end:
            for server in self.servers.values():
                server.manner.turn("pass")
            await asyncio.sleep(0.02)

    # What must hold.

    async def until(self, fact, what, deadline_s=DEADLINE_S):
        """Asks the API until `fact` of the status is empty; what is left after the deadline is broken. While a process takes
        over there may be no answer for a moment."""
        end = time.monotonic() + deadline_s
        while True:
            try:
                wrong = fact(await self.balancer.status())
            except (Bad, OSError, asyncio.TimeoutError) as e:
                wrong = f"no status: {e}"
            if not wrong:
                return
            if time.monotonic() > end:
                raise Broken(f"{what}, after {deadline_s} s: {wrong}")
            await asyncio.sleep(0.03)

    async def agrees(self):
        await self.until(self.model.differences, "status and model differ")

    async def at_rest(self, but=()):
        """With no client at work: nothing in flight (`but` in these pools), one process, a ledger without gaps, and nothing that
        anybody complained of."""
        broken = []

        async def holds(what):
            try:
                await what
            except (Broken, TimeoutError, Bad, OSError, asyncio.TimeoutError) as e:
                broken.append(str(e))

        await holds(self.traffic.rest())
        await holds(self.one_process())
        await holds(self.agrees())
        await holds(self.until(
            lambda s: [f"{p['name']}/{v['name']} {v['in_flight']}" for p in s["pools"] if p["name"] not in but
                       for v in p["servers"] if v["in_flight"]],
            "in flight, though nobody asks for anything"))
        await holds(self.ledger())
        faults, self.traffic.faults = self.traffic.faults, []
        broken += [f"a client that did nothing wrong: {fault}" for fault in faults[:8]]
        broken += ([f"and {len(faults) - 8} others"] if len(faults) > 8 else [])
        broken += self.notebook.take_wrong()[:8] + self.pulse.take_late()[:4]
        if await self.balancer.series("evenkeel_panics_total"):
            broken.append("evenkeel_panics_total is not 0")
        return broken

    async def one_process(self):
        end = time.monotonic() + DEADLINE_S
        while len(self.balancer.pids()) != 1:
            if time.monotonic() > end:
                raise Broken(f"processes {self.balancer.pids()}, where one must be")
            await asyncio.sleep(0.03)
        status = await self.balancer.status()
        self.model.took(status["process"]["generation"])
        if [status["process"]["pid"]] != self.balancer.pids():
            raise Broken(f"process {status['process']['pid']} answers, and {self.balancer.pids()} run")

    async def ledger(self):
        """In memory and in its file: the same numbers, each once."""
        before = self.model.last_event
        self.model.take_events([e["id"] for e in await self.balancer.events(before)], "the ledger")
        with open(self.balancer.events_path, "rb") as f:
            f.seek(self.events_read)
            data = f.read()
        data = data[:data.rfind(b"\n") + 1]
        self.events_read += len(data)
        ids = [json.loads(line)["id"] for line in data.splitlines()]
        twice = sorted({i for i in ids if ids.count(i) > 1})
        if twice:
            raise Broken(f"events.path has events {twice[:8]} more than once")

    async def restore(self):
        """Back to what every round begins with."""
        model, balancer = self.model, self.balancer
        for server in self.servers.values():
            server.manner.turn("pass")
        for expected in model.servers.values():
            expected.healthy = True
            model.open(expected.name, "down")
        for expected in list(model.servers.values()):
            if expected.present and expected.word:
                await self.must("ready", f"{expected.pool}/{expected.name}")
            if expected.present and expected.word_weight:
                await self.must("weight", f"{expected.pool}/{expected.name}", "default")
            expected.word = expected.word_weight = None
        if balancer.conf != self.base():
            balancer.conf = self.base()
            balancer.write()
            await self.must("reload")
            self.reloaded()
        model.closed.clear()
        await self.agrees()

    async def must(self, *command):
        said = await self.balancer.command(*command)
        if said.code != 0:
            raise Broken(f"back to the beginning: {said}")

    def reloaded(self):
        """The model follows what is in `conf` now, which is in force."""
        there = {s["name"]: (pool, s) for pool, keys in self.balancer.conf["pools"].items() for s in keys["servers"]}
        for name, (pool, keys) in there.items():
            if name not in self.model.servers:
                self.model.add(pool, name)
            expected = self.model.servers[name]
            expected.present, expected.weight, expected.file_drain = True, keys["weight"], keys.get("drain", False)
            if expected.file_drain:
                self.model.close(name, "drained by the file")
        for name, expected in self.model.servers.items():
            if name not in there and expected.present:
                # What operators said ends with the name.
                expected.present, expected.word, expected.word_weight = False, None, None
                self.model.close(name, "removed")

    def about_to_reload(self, conf):
        """What the file opens is open from before the reload on."""
        for keys in conf["pools"].values():
            for server in keys["servers"]:
                self.model.open(server["name"], "removed")
                if not server.get("drain"):
                    self.model.open(server["name"], "drained by the file")

    def weighs(self):
        pid = self.balancer.pids()[-1]
        return anonymous_kib(pid), open_files(pid)
