"""The scene of the TLS run: which servers there are, whose certificates, and the configuration that leads to them."""

import asyncio
import ssl
import subprocess
import sys
from pathlib import Path

import grpc
from app import content
from clients import Bad, Connection, PATIENCE_S
from scene import AppServer, Balancer, yaml
from stage import find_program, free_ports
from tls_certificates import Authority, new_key

HERE = Path(__file__).resolve().parent
MANY = 1000
SUB_RESOURCES = 24
PAGE = (HERE / "tls_page.html").read_text()

# What a binary may lack, each with the smallest file that needs it. `CERT` and `KEY` stand for files that exist.
FEATURES = {
    "tls_out": {"pool": {"tls": {"server_name": "a.example", "ca": "CERT"}}},
    "h2_out": {"pool": {"protocol": "h2"}},
    "auto_out": {"pool": {"protocol": "auto", "tls": {"server_name": "a.example", "ca": "CERT"}}},
    "grpc_probe": {"pool": {"protocol": "h2", "health": {"grpc": {"service": "test"}}}},
    "client_ca": {"tls": {"client_ca": "CERT"}},
    "ocsp": {"certificate": {"ocsp": "OCSP"}},
    "hsts": {"tls": {"hsts": {"max_age": "365d"}}},
}


def accepted(stage, binary, files):
    """The features that the binary's own `check` accepts, and what it said of the others."""
    can, said = set(), {}
    for name, keys in FEATURES.items():
        pair = {**files.issue("feature", ["a.example"]).pair(), **keys.get("certificate", {})}
        text = yaml({
            "listeners": {"l": {"address": "127.0.0.1:1", "pool": "p", "tls": {"certificates": [pair], **keys.get("tls", {})}}},
            "pools": {"p": {"servers": ["127.0.0.1:2"], **keys.get("pool", {})}}}) + "\n"
        if "OCSP" in text:
            text = text.replace("OCSP", str(files.staple(files.issued["feature"])))
        path = stage.dir / f"can-{name}.yaml"
        path.write_text(text.replace("CERT", str(files.path)))
        done = subprocess.run([binary, "check", str(path)], capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
        if done.returncode == 0:
            can.add(name)
        else:
            said[name] = (done.stdout.strip() or done.stderr.strip())[:300]
    return can, said


class Program:
    """A server of the run that is a Python program of its own."""

    def __init__(self, stage, name, argv, port):
        self.stage, self.name, self.argv, self.port = stage, name, argv, port

    async def start(self):
        self.process = self.stage.start(self.name, [sys.executable, *self.argv])
        await asyncio.to_thread(self.stage.wait_for_port, self.process, self.port)


class NginxTls:
    """nginx that speaks TLS itself: HTTP/1.1 on one port, HTTP/2 as well on the other."""

    def __init__(self, stage, name, ports, certificate):
        self.stage, self.name, self.ports, self.certificate = stage, name, ports, certificate
        self.port = ports[0]

    async def start(self):
        home = self.stage.dir / self.name
        home.mkdir()
        servers = "".join(f"""
    server {{
        listen 127.0.0.1:{port} ssl{' http2' if i else ''};
        ssl_certificate {self.certificate.cert}; ssl_certificate_key {self.certificate.key};
        add_header X-Server {self.name} always;
        add_header X-Spoke "$server_protocol $ssl_protocol $ssl_server_name reused=$ssl_session_reused" always;
        location /static/ {{ alias {self.stage.dir}/www/; }}
        location / {{ return 200 "ok\\n"; }}
    }}""" for i, port in enumerate(self.ports))
        conf = home / "nginx.conf"
        conf.write_text(f"""\
daemon off;
worker_processes 1;
pid {home}/pid;
error_log stderr warn;
events {{ worker_connections 4000; }}
http {{
    access_log off;
    ssl_protocols TLSv1.2 TLSv1.3;
    keepalive_timeout 300s;
    keepalive_requests 100000000;
    client_body_temp_path {home}/t1; proxy_temp_path {home}/t2; fastcgi_temp_path {home}/t3;
    uwsgi_temp_path {home}/t4; scgi_temp_path {home}/t5;{servers}
}}
""")
        self.process = self.stage.start(self.name, [find_program("nginx"), "-p", home, "-c", conf])
        await asyncio.to_thread(self.stage.wait_for_port, self.process, self.ports[-1])


class Collector:
    """Where the page in the browser sends what it found."""

    def __init__(self):
        self.said = asyncio.Queue()

    async def start(self, port):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", port)

    async def serve(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                fields = dict(line.split(":", 1) for line in head.split("\r\n")[1:] if line)
                body = await reader.readexactly(int(fields.get("content-length", 0)))
                if body:
                    self.said.put_nowait(body.decode())
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


class TlsConnection(Connection):
    """An HTTP/1.1 connection inside TLS, the certificate checked. `where` is (port, server name, context)."""

    async def open(self):
        port, name, context = self.where
        try:
            opening = asyncio.open_connection("127.0.0.1", port, limit=1 << 21, ssl=context, server_hostname=name)
            self.reader, self.writer = await asyncio.wait_for(opening, PATIENCE_S)
        except OSError as e:
            raise Bad("refused", f"connect: {e}") from e
        return self


class Scene:
    """`can`: what the binary's `check` accepts; what it does not is left out."""

    def __init__(self, stage, binary, authority, can):
        self.stage, self.can, self.authority = stage, can, authority
        self.balancer = Balancer(stage, binary)
        self.make_files()
        names = ["web", "modern", "mutual", "plain", "few", "many", "swap"]
        self.ports = dict(zip(names, free_ports(len(names))))
        self.make_certificates()
        port = dict(zip(["s1", "s2", "a1", "a2", "g1", "g2", "w1", "w2", "notes"], free_ports(9)))
        self.notes_port = port["notes"]
        self.servers = {n: AppServer(stage, n, "nginx" if n[0] == "s" else "app", port[n]) for n in ("s1", "s2", "a1", "a2")}
        for name in ("g1", "g2"):
            self.servers[name] = Program(stage, name, [HERE / "tls_grpc_server.py", name, port[name]], port[name])
        for name in ("w1", "w2"):
            self.servers[name] = Program(stage, name, [HERE / "tls_websocket_server.py", name, port[name]], port[name])
        for name in ("n1", "n2"):
            self.servers[name] = NginxTls(stage, name, free_ports(2), self.inner)
        self.collector = Collector()

    def make_files(self):
        www = self.stage.dir / "www"
        www.mkdir()
        self.files = {"200b": content(205, "200b"), "16k": content(16 << 10, "16k"), "1m": content(1 << 20, "1m")}
        for i in range(SUB_RESOURCES):
            self.files[f"part{i}.js"] = f"window.parts = (window.parts || 0) + 1; // {'x' * 997 * i}\n".encode()
        scripts = "\n".join(f'<script src="/static/part{i}.js"></script>' for i in range(SUB_RESOURCES))
        self.files["page.html"] = PAGE.replace("<!-- parts -->", scripts).encode()
        for name, data in self.files.items():
            (www / name).write_bytes(data)

    def make_certificates(self):
        issue = self.authority.issue
        self.shop_ec = issue("shop-ec", ["shop.example", "www.shop.example"])
        self.shop_rsa = issue("shop-rsa", ["shop.example", "www.shop.example"], "rsa")
        self.pay = issue("pay", ["pay.example"])
        self.wild = issue("wild", ["*.shop.example"])
        self.grpc = issue("grpc", ["grpc.example"])
        self.inner = issue("inner", ["inner.example"])
        self.client = issue("client", ["client.example"])
        self.swaps = [issue(f"swap{i}", ["swap.example"]) for i in range(2)]
        self.swapped = issue("swap", ["swap.example"])
        key = new_key("ec")
        self.many = [issue(f"many{i}", [f"m{i}.many.example"], key=key) for i in range(MANY)]
        # Whoever checks certificates at all trusts this authority alone.
        self.context = ssl.create_default_context(cafile=self.authority.path)

    def put_swap(self, number):
        """One of the two certificates of swap.example in the place that is configured, as a renewal does it."""
        for name in ("cert", "key"):
            fresh = getattr(self.swapped, name).with_suffix(".fresh")
            fresh.write_bytes(getattr(self.swaps[number], name).read_bytes())
            fresh.replace(getattr(self.swapped, name))

    async def start(self):
        await asyncio.gather(*(s.start() for s in self.servers.values()))
        await self.collector.start(self.notes_port)
        self.put_swap(0)
        self.configure()
        self.balancer.start()
        for pool, keys in self.balancer.conf["pools"].items():
            for server in keys["servers"]:
                await self.wait_up(pool, server["name"])

    async def wait_up(self, pool, server, up=True):
        key = ("evenkeel_server_up", (("pool", pool), ("server", server)))
        await self.balancer.wait_metric(lambda s: s.get(key) == float(up), 15, f"{pool}/{server} to be {'up' if up else 'down'}")

    # The configuration.

    def server(self, name, **keys):
        port = self.notes_port if name == "notes" else self.servers[name].port
        return {"name": name, "address": f"127.0.0.1:{port}", **keys}

    def pool(self, servers, probe=None, balance="round_robin", **keys):
        health = {**(probe or {"http": "/healthz"}), "interval": "300ms", "timeout": "280ms", "fall": 2, "rise": 1}
        return {"balance": balance, "servers": [self.server(s) for s in servers], "health": health,
                "timeouts": {"connect": "3s", "request": "60s", "stream_idle": "60s", "tunnel_idle": "1h"},
                "drain_timeout": "10m", **keys}

    def listener(self, name, certificates, lead=None, **tls):
        return {"address": f"127.0.0.1:{self.ports[name]}", **(lead or {"routes": "main"}),
                "limits": {"connections": 5000, "connections_per_client": None},
                "tls": {"certificates": [self.pair(c) for c in certificates], **tls}}

    def pair(self, certificate):
        stapled = "ocsp" in self.can and certificate in (self.shop_ec, self.shop_rsa)
        staple = {"ocsp": str(self.authority.staple(certificate))} if stapled else {}
        return {**certificate.pair(), **staple}

    def configure(self):
        named = [self.shop_ec, self.shop_rsa, self.pay, self.wild, self.grpc]
        hsts = {"hsts": {"max_age": "365d"}} if "hsts" in self.can else {}
        static = {"pool": "static"}
        listeners = {
            "web": self.listener("web", named, **hsts),
            "modern": self.listener("modern", [self.shop_ec], static, min_version="1.3"),
            "plain": {"address": f"127.0.0.1:{self.ports['plain']}", "redirect_to_https": True},
            "few": self.listener("few", self.many[:1], static),
            "many": self.listener("many", self.many, static),
            "swap": self.listener("swap", [self.swapped], static),
        }
        rules = [
            {"match": {"path": "/static/*"}, "pool": "static"},
            {"match": {"path": "/note"}, "pool": "notes"},
            {"match": {"path": "/ws"}, "pool": "talk"},
        ]
        pools = {
            "static": self.pool(["s1", "s2"]),
            "app": self.pool(["a1", "a2"]),
            "talk": self.pool(["w1", "w2"], {"tcp": {}}, "least_connections"),
            "notes": self.pool(["notes"], {"tcp": {}}),
        }
        if "client_ca" in self.can:
            listeners["mutual"] = self.listener("mutual", [self.shop_ec], {"pool": "app"}, client_ca=str(self.authority.path))
        inner = {"server_name": "inner.example", "ca": str(self.authority.path)}
        if "tls_out" in self.can:
            pools["inner"] = self.pool(["n1", "n2"], tls=inner)
            # The wrong authority for the same servers: nothing may ever come from there. Unprobed, or it would be down.
            other = Authority(self.stage.dir, "somebody else")
            pools["distrust"] = {**self.pool(["n1"]), "health": None, "tls": {**inner, "ca": str(other.path)}}
            rules += [{"match": {"path": "/inner/*"}, "pool": "inner"}, {"match": {"path": "/distrust/*"}, "pool": "distrust"}]
        for feature, pool, keys in (("auto_out", "inner_auto", {"protocol": "auto"}), ("h2_out", "inner_h2", {"protocol": "h2"})):
            if feature in self.can and "tls_out" in self.can:
                servers = [{"name": n, "address": f"127.0.0.1:{self.servers[n].ports[1]}"} for n in ("n1", "n2")]
                pools[pool] = {**self.pool(["n1", "n2"], tls=inner, **keys), "servers": servers}
                rules.append({"match": {"path": f"/{pool}/*"}, "pool": pool})
        if "h2_out" in self.can:
            probe = {"grpc": {"service": "test"}} if "grpc_probe" in self.can else {"tcp": {}}
            pools["grpc"] = self.pool(["g1", "g2"], probe, protocol="h2")
            rules.insert(0, {"match": {"host": "grpc.example"}, "pool": "grpc"})
        self.balancer.conf = {
            "process": {"threads": "auto", "max_connections": 4000, "shutdown_timeout": "20s"},
            "admin": self.balancer.admin_section(),
            "log": {"level": "info", "format": "text"},
            "access_log": {"path": str(self.balancer.access_log), "format": "json"},
            "listeners": listeners, "routes": {"main": [*rules, {"pool": "app"}]}, "pools": pools}

    def url(self, path, listener="web", name="shop.example", scheme="https"):
        return f"{scheme}://{name}:{self.ports[listener]}{path}"

    def grpc_channel(self):
        """A real gRPC client's channel through the balancer."""
        roots = grpc.ssl_channel_credentials(self.authority.path.read_bytes())
        return grpc.aio.secure_channel(f"127.0.0.1:{self.ports['web']}", roots, options=[
            ("grpc.ssl_target_name_override", "grpc.example"), ("grpc.default_authority", "grpc.example"),
            ("grpc.max_receive_message_length", 32 << 20), ("grpc.max_send_message_length", 32 << 20),
            ("grpc.enable_retries", 0)])

    def where(self, listener="web", name="shop.example"):
        return (self.ports[listener], name, self.context)
