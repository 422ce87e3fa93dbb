"""The scene of the layer 4 run: which servers there are, and the configuration that leads to them."""

import asyncio

from app import content
from l4_servers import (Certificate, Dnsmasq, EchoServer, HaproxyBack, HaproxyFront, NginxBack, NginxFront, RedisServer,
                        StreamServer, TlsNginx)
from proxy_header import parse
from scene import AppServer, Balancer
from stage import free_ports

TLS_POOLS = {"a": ["a.shop.example"], "b": ["b.shop.example"], "wild": ["*.shop.example"], "other": ["other.example"]}
FILES = {"small": 300, "page": 20_000, "image": 400_000}
FRONTS = {"nginx v1": "v1", "HAProxy v1": "v1", "HAProxy v2": "v2", "HAProxy v2 with TLVs": "v2 with TLVs"}
BACKS = ["nginx_v1", "nginx_v2", "haproxy_v1", "haproxy_v2", "catch_v1", "catch_v2"]
TARGETS = ["app", *BACKS, "nginx_tls"]


class Evenkeel(Balancer):
    # A server gets nothing before its first probe has passed.
    starts_probing = True

    async def wait_up(self, pool, server, up=True):
        key = ("evenkeel_server_up", (("pool", pool), ("server", server)))
        await self.wait_metric(lambda s: s.get(key) == float(up), 15, f"{pool}/{server} to be {'up' if up else 'down'}")


class Catcher:
    """Reads the PROXY header itself, keeps what it said, and answers any request with it."""

    def __init__(self):
        self.seen = []

    async def start(self, port):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", port)

    async def serve(self, reader, writer):
        data = b""
        try:
            while True:
                block = await reader.read(4096)
                if not block:
                    break
                data += block
                if data.endswith(b"\r\n\r\n") and b"GET " in data:
                    version, said = parse(data)
                    writer.write(f"HTTP/1.1 200 OK\r\nX-Seen: {said}\r\nX-Version: {version}\r\n"
                                 "Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
                    break
        except OSError:
            pass
        self.seen.append(parse(data))
        writer.close()


class Scene:
    """`can`: what the binary's `check` accepts; what it does not is left out."""

    def __init__(self, stage, balancer, can):
        self.stage, self.balancer, self.can = stage, balancer, can
        self.files = {name: content(size, name) for name, size in FILES.items()}
        (stage.dir / "www").mkdir()
        for name, data in self.files.items():
            (stage.dir / "www" / name).write_bytes(data)
        self.certificates = {name: Certificate(stage.dir, name, hosts) for name, hosts in TLS_POOLS.items()}
        self.pool_of = {c.fingerprint: name for name, c in self.certificates.items()}
        wanted = ["redis", "redis_hash", "streams", "bulk", "tls", "dns", "dns_tcp", "pop", "idle", "garbage_tls", "garbage_proxy",
                  "garbage_http", "catch", *(f"in_{t}" for t in TARGETS)]
        self.ports = dict(zip(wanted, free_ports(len(wanted))))
        self.make_servers()

    def make_servers(self):
        names = ["r1", "r2", "r3", "r4", "s1", "s2", "s3", "d1", "d2", "a1", "e1", "e2", "hb", "dead"]
        port = dict(zip(names, free_ports(len(names))))
        self.dead_port = port["dead"]
        stage, self.servers = self.stage, {}
        for name in ("r1", "r2", "r3", "r4"):
            self.servers[name] = RedisServer(stage, name, port[name], password="secret" if name == "r4" else None)
        for name in ("s1", "s2", "s3"):
            self.servers[name] = StreamServer(stage, name, port[name])
        for name in ("d1", "d2"):
            self.servers[name] = Dnsmasq(stage, name, port[name])
        for name in ("e1", "e2"):
            self.servers[name] = EchoServer(stage, name, port[name])
        for name in ("n1", "n2"):
            self.servers[name] = TlsNginx(stage, name, dict(zip(TLS_POOLS, free_ports(len(TLS_POOLS)))), self.certificates)
        self.servers["a1"] = AppServer(stage, "a1", "app", port["a1"])
        self.servers["nb"] = NginxBack(stage, "nb", free_ports(2), self.certificates["a"])
        self.servers["hb"] = HaproxyBack(stage, "hb", port["hb"])
        # front → target → the front's port that leads there
        self.fronts = {front: dict(zip(TARGETS, free_ports(len(TARGETS)))) for front in FRONTS}
        behind = {t: self.ports[f"in_{t}"] for t in TARGETS}
        self.servers["nf"] = NginxFront(stage, "nf", {p: behind[t] for t, p in self.fronts["nginx v1"].items()})
        self.servers["hf"] = HaproxyFront(stage, "hf", {
            p: (how, behind[t]) for front, how in FRONTS.items() if front != "nginx v1" for t, p in self.fronts[front].items()})
        self.catcher = Catcher()

    async def start(self):
        # The fronts listen whether anybody is behind them or not.
        await asyncio.gather(*(s.start() for s in self.servers.values()))
        await self.catcher.start(self.ports["catch"])

    # The configuration.

    def server(self, name, pool=None, **keys):
        if pool in TLS_POOLS:
            port = self.servers[name].by_pool[pool]
        elif name == "dead":
            port = self.dead_port
        elif name == "catcher":
            port = self.ports["catch"]
        elif pool == "nginx_tls":
            port = self.servers[name].ports[1]
        else:
            port = self.servers[name].port
        return {"name": name, "address": f"127.0.0.1:{port}", "weight": 100, **keys}

    def pool(self, name, servers, balance="least_connections", probe=None, **keys):
        health = {**(probe or {"tcp": {}}), "interval": "300ms", "timeout": "280ms", "fall": 3, "rise": 1, "initial": "probing"}
        return {"balance": balance, "servers": [self.server(s, name) for s in servers], "health": health,
                "timeouts": {"connect": "3s", "tunnel_idle": "1h"}, "drain_timeout": "10m", **keys}

    def listener(self, port, protocol="tcp", **keys):
        entry = {"address": f"127.0.0.1:{self.ports[port]}", "protocol": protocol, **keys}
        if protocol != "udp":
            entry["limits"] = {"connections": 15000, "connections_per_client": None}
        if protocol == "tls_passthrough" or "proxy_protocol" in keys:
            entry.setdefault("timeouts", {"tls_handshake": "5s"})
        return entry

    def configure(self):
        ping = {"tcp": {"send": "PING\r\n", "expect": "+PONG"}} if "tcp_probe" in self.can else {"tcp": {}}
        tls_probe = {"tls": {}} if "tls_probe" in self.can else {"tcp": {}}
        # Without its PING the one that asks for a password would be taken for well.
        redis = ["r1", "r2", "r4"] if self.balancer.starts_probing and "tcp_probe" in self.can else ["r1", "r2"]
        by_client = {"consistent_hash": {"key": "client_ip"}}
        listeners = {
            "redis": self.listener("redis", pool="redis"),
            "redis_hash": self.listener("redis_hash", pool="redis_hash"),
            "streams": self.listener("streams", pool="streams"),
            "bulk": self.listener("bulk", pool="bulk"),
            "dns_tcp": self.listener("dns_tcp", pool="dns_tcp"),
        }
        pools = {
            "redis": self.pool("redis", redis, probe=ping),
            "redis_hash": self.pool("redis_hash", ["r1", "r2", "r3"], balance=by_client, probe=ping),
            "streams": self.pool("streams", ["s1", "s2"], balance="round_robin"),
            "bulk": self.pool("bulk", ["s3"]),
            "dns_tcp": self.pool("dns_tcp", ["d1", "d2"], balance="round_robin"),
        }
        routes = {}
        if "tls_passthrough" in self.can:
            listeners["tls"] = self.listener("tls", "tls_passthrough", routes="by_name")
            routes["by_name"] = [
                {"name": "a", "match": {"host": "a.shop.example"}, "pool": "a"},
                {"name": "b", "match": {"host": "b.shop.example"}, "pool": "b"},
                {"name": "wild", "match": {"host": "*.shop.example"}, "pool": "wild"},
                {"name": "other", "pool": "other"}]
            for name in TLS_POOLS:
                pools[name] = self.pool(name, ["n1", "n2"], probe=tls_probe)
        if "proxy_protocol" in self.can:
            self.configure_proxy(listeners, pools, routes)
        if "udp" in self.can:
            # Silence is how a session ends: short, so that none is left when the run looks for leases.
            listeners["dns"] = self.listener("dns", "udp", pool="dns", timeouts={"idle": "5s"})
            # h1.test, and an answer of this id without an error.
            ask = {"udp": {"send_hex": "1234 0100 0001 0000 0000 0000 026831 0474657374 00 0001 0001", "expect_hex": "1234 8580"}}
            pools["dns"] = self.pool("dns", ["d1", "d2"], balance=by_client, probe=ask)
        self.balancer.conf = {
            "process": {"threads": "auto", "max_connections": 19000, "shutdown_timeout": "30s"},
            "admin": self.balancer.admin_section(),
            "log": {"level": "info", "format": "text"},
            "access_log": {"path": str(self.balancer.access_log), "format": "json"},
            "listeners": listeners, "routes": routes, "pools": pools}
        if not routes:
            del self.balancer.conf["routes"]

    def configure_proxy(self, listeners, pools, routes):
        said = {"proxy_protocol": {"from": ["127.0.0.1/32"]}}
        listeners["in_app"] = self.listener("in_app", "http", pool="app", **said)
        pools["app"] = self.pool("app", ["a1"], probe={"http": "/healthz"})
        for back in BACKS:
            server, version = back.split("_")
            listeners[f"in_{back}"] = self.listener(f"in_{back}", pool=back, **said)
            name = {"nginx": "nb", "haproxy": "hb", "catch": "catcher"}[server]
            # That their probes pass shows that probes bring the header as well.
            probe = {"tcp": {}} if server == "catch" else {"http": "/healthz"}
            pools[back] = self.pool(back, [name], probe=probe, proxy_protocol=version)
        if "tls_passthrough" in self.can:
            listeners["in_nginx_tls"] = self.listener("in_nginx_tls", "tls_passthrough", routes="proxied_tls", **said)
            routes["proxied_tls"] = [{"name": "proxied", "match": {"host": "a.shop.example"}, "pool": "nginx_tls"}]
            pools["nginx_tls"] = self.pool("nginx_tls", ["nb"], proxy_protocol="v2")

    def where(self, listener):
        return ("127.0.0.1", self.ports[listener])
