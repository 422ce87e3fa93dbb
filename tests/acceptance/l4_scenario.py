"""The load of the layer 4 run, and the reloads under it."""

import asyncio
import sys
from collections import Counter
from pathlib import Path

import redis_client
from l4_judge import Judge
from l4_users import DnsUsers, ProxyUsers, TlsUsers, handmade_headers, outsiders
from redis_client import Redis
from stage import accepts
from tls_client import Tls

HERE = Path(__file__).resolve().parent


class Enough(Exception):
    """All reloads were made."""


class Scenario(Judge):
    def __init__(self, scene, report, args):
        self.scene, self.args, self.report = scene, args, report
        self.say, self.check = report.say, report.check
        self.balancer, self.stage, self.can = scene.balancer, scene.stage, scene.can
        self.reloads = 0
        self.is_evenkeel = args.through == "evenkeel"

    # Small words for the steps.

    def conf(self, kind, name):
        return self.balancer.conf[kind][name]

    def set_keys(self, pool, name, **keys):
        next(s for s in self.conf("pools", pool)["servers"] if s["name"] == name).update(keys)

    def add_server(self, pool, name, **keys):
        self.conf("pools", pool)["servers"].append(self.scene.server(name, pool, **keys))

    def drop_server(self, pool, name):
        keys = self.conf("pools", pool)
        keys["servers"] = [s for s in keys["servers"] if s["name"] != name]

    async def reload(self, what, counted=True):
        if counted and self.reloads == self.args.reloads:
            raise Enough
        generation = await self.balancer.reload()
        self.reloads += counted
        self.say(f"reload{f' {self.reloads}' if counted else ''}: {what}; generation {generation} in force after "
                 f"{self.balancer.reload_times_ms[-1]:.0f} ms")
        await asyncio.sleep(self.args.dwell)

    async def ports_of_new_ones(self, count, listener="redis"):
        """How many new connections each server gets, by its port."""
        got = Counter()
        for _ in range(count):
            connection = await Redis(self.scene.where(listener)).open()
            got[await connection.port()] += 1
            connection.close()
        return got

    async def hash_owners(self):
        owners = {}
        for i in range(2, 26):
            connection = await Redis(self.scene.where("redis_hash"), f"127.0.0.{i}").open()
            owners[i] = await connection.port()
            connection.close()
        return owners

    def port(self, server):
        return self.scene.servers[server].port

    # The load.

    async def wait_until_up(self):
        balancer = self.balancer
        balancer.note_generation(await balancer.generation())
        for name, pool in balancer.conf["pools"].items():
            for server in pool["servers"]:
                if server["name"] != "r4":
                    await balancer.wait_up(name, server["name"])

    async def begin(self):
        scene = self.scene
        self.say("all servers are up; the load begins")
        self.redis = redis_client.Users(scene.where("redis"))
        self.redis.start(kept=8, brief=4)
        self.users = {"DNS over TCP": DnsUsers(scene, "tcp")}
        if "tls_passthrough" in self.can:
            self.users["TLS by name"] = TlsUsers(scene)
        if "proxy_protocol" in self.can:
            self.users["PROXY"] = ProxyUsers(scene)
        if "udp" in self.can:
            self.users["DNS over UDP"] = DnsUsers(scene, "udp")
        for users in self.users.values():
            users.start()
        self.load = self.start_load("load", "--streams", 9, "--long", 4)
        self.bulk = None
        self.owners = await self.hash_owners()
        # An idle one that is never used until the end.
        self.sleeper = await Redis(scene.where("redis")).open()
        self.sleeper_port = await self.sleeper.port()

    def start_load(self, name, *options, listener="streams"):
        host, port = self.scene.where(listener)
        return self.stage.start(name, [sys.executable, HERE / "streams.py", "load", f"{host}:{port}", name,
                                       "--seed", self.args.seed, *options])

    # The steps; each reloads at least once. `turn` is 0 in the first round, 1 in the second, …

    async def add_a_server(self, turn):
        self.add_server("redis", "r3")
        await self.reload("add r3 to redis")
        await self.balancer.wait_up("redis", "r3")
        got = await self.ports_of_new_ones(30)
        self.check("an added server gets new connections", got[self.port("r3")] > 0,
                   ", ".join(f"{n} {got[self.port(n)]}" for n in ("r1", "r2", "r3")))

    async def reweight(self, turn):
        weights = {"s1": 200, "s2": 50} if turn % 2 == 0 else {"s1": 100, "s2": 100}
        for name, weight in weights.items():
            self.set_keys("streams", name, weight=weight)
        await self.reload(f"reweight streams {weights}")
        if turn == 0:
            self.bulk = self.start_load("bulk", "--bulk", self.args.bulk, listener="bulk")

    async def drain_a_server(self, turn):
        name = "r1" if turn % 2 == 0 else "r2"
        self.set_keys("redis", name, drain=True)
        await self.reload(f"drain {name}")
        got = await self.ports_of_new_ones(10)
        self.check("a drained server gets no new connections", got[self.port(name)] == 0, f"{dict(got)}")
        self.set_keys("redis", name, drain=False)
        await self.reload(f"{name} is ready again")

    async def listeners_come_change_and_go(self, turn):
        listeners = self.balancer.conf["listeners"]
        listeners["pop"] = self.scene.listener("pop", pool="redis")
        await self.reload("add listener pop")
        kept = await Redis(self.scene.where("pop")).open()
        await kept.command("SET", "pop", turn)
        listeners["pop"] = self.scene.listener("pop", pool="redis_hash")
        listeners["pop"]["limits"]["connections"] = 5000
        listeners["streams"]["limits"]["connections"] = 14_000 + turn
        await self.reload("change listeners pop (pool, limits) and streams (limits)")
        still = await kept.command("GET", "pop") == str(turn).encode()
        self.check("a connection stays on its server when its listener leads elsewhere", still)
        del listeners["pop"]
        await self.reload("remove listener pop")
        gone = not await self.until_refused(self.scene.ports["pop"])
        self.check("a removed listener refuses", gone)
        try:
            self.check("a connection of a removed listener goes on", await kept.command("GET", "pop") == str(turn).encode())
        except (OSError, EOFError) as e:
            self.check("a connection of a removed listener goes on", False, repr(e))
        kept.close()

    async def until_refused(self, port):
        for _ in range(100):
            if not accepts(port):
                return False
            await asyncio.sleep(0.02)
        return True

    async def remove_a_server(self, turn):
        connection = None
        for _ in range(40):
            connection = await Redis(self.scene.where("redis")).open()
            if await connection.port() == self.port("r3"):
                break
            connection.close()
        self.drop_server("redis", "r3")
        await self.reload("remove r3 from redis")
        got = await self.ports_of_new_ones(10)
        self.check("a removed server gets no new connections", got[self.port("r3")] == 0, f"{dict(got)}")
        self.check("a connection to a removed server goes on", await connection.port() == self.port("r3"))
        connection.close()

    async def a_server_that_refuses(self, turn):
        """Nobody listens there: whoever is sent there must be sent on."""
        self.conf("pools", "streams")["health"]["initial"] = "up"
        self.add_server("streams", "dead")
        await self.reload("add a server that refuses connections, taken to be up")
        await self.balancer.wait_up("streams", "dead", False)
        self.drop_server("streams", "dead")
        self.conf("pools", "streams")["health"]["initial"] = "probing"
        await self.reload("remove the server that refuses")

    async def routes_change(self, turn):
        if "tls_passthrough" not in self.can:
            return
        where, rules = self.scene.where("tls"), self.balancer.conf["routes"]["by_name"]
        old = await Tls(where, "c.shop.example").open()
        rules.insert(0, {"name": "c", "match": {"host": "c.shop.example"}, "pool": "b"})
        await self.reload("add a route for c.shop.example")
        fresh = await Tls(where, "c.shop.example").open()
        came_to = [self.scene.pool_of.get(c.certificate()) for c in (old, fresh)]
        await old.get("/static/small")
        self.check("a new route leads new connections, and only those", came_to == ["wild", "b"], f"{came_to}")
        del rules[0]
        await self.reload("remove the route for c.shop.example")
        back = await Tls(where, "c.shop.example").open()
        await fresh.get("/static/small")
        self.check("without it they come where they came before", self.scene.pool_of.get(back.certificate()) == "wild")
        for each in (old, fresh, back):
            each.close()

    async def drain_behind_tls(self, turn):
        if "tls_passthrough" not in self.can:
            return
        name = "n1" if turn % 2 == 0 else "n2"
        for pool in ("a", "wild"):
            self.set_keys(pool, name, drain=True)
        await self.reload(f"drain {name} in pools a and wild")
        got = Counter()
        for _ in range(6):
            connection = await Tls(self.scene.where("tls"), "a.shop.example").open()
            got[(await connection.get("/static/small"))[0]["x-server"]] += 1
            connection.close()
        self.check("a drained nginx gets no new TLS connections", got[name] == 0, f"{dict(got)}")
        for pool in ("a", "wild"):
            self.set_keys(pool, name, drain=False)
        await self.reload(f"{name} is ready again")

    async def change_the_balance(self, turn):
        self.conf("pools", "redis")["balance"] = ["random_two", "round_robin"][turn % 2]
        await self.reload(f"balance redis by {self.conf('pools', 'redis')['balance']}")
        self.conf("pools", "redis")["balance"] = "least_connections"
        await self.reload("balance redis by least_connections")

    async def hash_stays(self, turn):
        self.check("a client's address leads to the same server as before",
                   await self.hash_owners() == self.owners or not self.is_evenkeel)
        self.drop_server("redis_hash", "r2")
        await self.reload("remove r2 from redis_hash")
        now = await self.hash_owners()
        moved = [i for i, p in self.owners.items() if p != self.port("r2") and now[i] != p]
        self.check("removing a hash server moves only its own clients", not moved or not self.is_evenkeel, f"{len(moved)} others moved")
        self.add_server("redis_hash", "r2")
        await self.reload("add r2 to redis_hash")
        await self.balancer.wait_up("redis_hash", "r2")
        self.check("and they come back with it", await self.hash_owners() == self.owners or not self.is_evenkeel)

    async def replace_a_pool(self, turn):
        """The pool of the streams goes, with streams on it; another comes under another name."""
        pools, listener = self.balancer.conf["pools"], self.conf("listeners", "streams")
        old, new = listener["pool"], f"streams{turn + 2}"
        pools[new] = self.scene.pool(new, ["s2", "s1"], balance="round_robin")
        pools[new]["health"]["initial"] = "up"
        listener["pool"] = new
        await self.reload(f"streams go to pool {new} from now on")
        del pools[old]
        await self.reload(f"pool {old} is gone")
        pools["streams"] = self.scene.pool("streams", ["s1", "s2"], balance="round_robin")
        pools["streams"]["health"]["initial"] = "up"
        listener["pool"] = "streams"
        del pools[new]
        await self.reload(f"back to pool streams, without {new}")
        pools["streams"]["health"]["initial"] = "probing"

    async def drain_dns(self, turn):
        name = "d1" if turn % 2 == 0 else "d2"
        for pool in ("dns", "dns_tcp"):
            if pool in self.balancer.conf["pools"]:
                self.set_keys(pool, name, drain=True)
        await self.reload(f"drain {name}")
        for pool in ("dns", "dns_tcp"):
            if pool in self.balancer.conf["pools"]:
                self.set_keys(pool, name, drain=False, weight=100 + turn)
        await self.reload(f"{name} is ready again")

    async def change_proxy_pools(self, turn):
        """What has nothing to do with the connections that run: timeouts, weights, networks."""
        for pool, keys in self.balancer.conf["pools"].items():
            if "proxy_protocol" in keys:
                keys["timeouts"]["connect"] = f"{4 + turn}s"
        if "in_app" in self.balancer.conf["listeners"]:
            self.conf("listeners", "in_app")["proxy_protocol"]["from"] = ["127.0.0.1/32", f"10.0.{turn}.0/24"]
        await self.reload("change timeouts of the pools behind PROXY, and the networks it may come from")

    async def a_refused_file(self, turn):
        if not self.is_evenkeel:
            return
        before, after, said = await self.balancer.reload_refused("listeners: { broken: { protocol: tcp, pool: nowhere } }\n")
        self.check("a refused file changes nothing", before == after, said.strip()[-200:] if before != after else "")
        self.set_keys("redis", "r1", weight=100 + turn)
        await self.reload("a good file after the refused one")

    async def until_alone(self, port):
        """Waits until this Redis has lost the clients it had when it left the pool `redis`."""
        direct = await Redis(("127.0.0.1", port)).open()
        end = asyncio.get_running_loop().time() + 15
        while "connected_clients:1\r" not in (await direct.command("INFO", "clients")).decode():
            if asyncio.get_running_loop().time() > end:
                raise TimeoutError("a Redis that was removed keeps its clients")
            await asyncio.sleep(0.05)
        direct.close()

    async def stop_and_start_a_server(self, turn):
        """r3 is in no pool but redis_hash, where the others take its clients while it is away."""
        server = self.scene.servers["r3"]
        await self.until_alone(server.port)
        await server.stop()
        await self.balancer.wait_up("redis_hash", "r3", False)
        self.set_keys("redis_hash", "r1", max_connections=1000 + turn)
        await self.reload("something else, while r3 is down")
        got = set((await self.hash_owners()).values())
        self.check("a dead server gets no new connections, also after a reload", self.port("r3") not in got, f"{got}")
        await server.start()
        await self.balancer.wait_up("redis_hash", "r3")

    async def change_everything(self):
        steps = [self.add_a_server, self.reweight, self.drain_a_server, self.routes_change, self.listeners_come_change_and_go,
                 self.a_server_that_refuses, self.remove_a_server, self.drain_behind_tls, self.change_the_balance,
                 self.stop_and_start_a_server, self.hash_stays, self.drain_dns, self.change_proxy_pools, self.replace_a_pool,
                 self.a_refused_file]
        turn = 0
        try:
            while True:
                for step in steps:
                    await step(turn)
                if turn == 0 and "proxy_protocol" in self.can:
                    await self.proxy_by_hand()
                turn += 1
        except Enough:
            # The step that was cut short has left wishes that never came into force.
            self.balancer.forget_wishes()
            if turn == 0 and "proxy_protocol" in self.can:
                await self.proxy_by_hand()

    async def proxy_by_hand(self):
        faults = await handmade_headers(self.scene, self.is_evenkeel)
        self.check("headers made by hand are read as they are meant, whole and byte by byte", not faults, "; ".join(faults[:6]))
        faults = await outsiders(self.scene)
        self.check("a header is not believed from anywhere else, nor needed there", not faults, "; ".join(faults[:6]))
