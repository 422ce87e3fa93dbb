"""Real servers for the layer 4 run: Redis, nginx with TLS, dnsmasq, and nginx and HAProxy on either side for PROXY."""

import asyncio
import hashlib
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

from stage import accepts, find_program

HERE = Path(__file__).resolve().parent
STREAM_MODULES = [Path("/usr/lib/nginx/modules/ngx_stream_module.so"), Path("/usr/lib64/nginx/modules/ngx_stream_module.so")]


class Server:
    """A process that listens on one or more ports, and can be stopped and started again."""

    def __init__(self, stage, name, *ports):
        self.stage, self.name, self.ports = stage, name, ports
        self.dir = stage.dir / name
        self.dir.mkdir(exist_ok=True)
        self.dir.chmod(0o777)
        self.process = None

    @property
    def port(self):
        return self.ports[0]

    async def start(self):
        self.process = self.stage.start(self.name, self.argv())
        end = time.monotonic() + 20
        while not all(accepts(p) for p in self.ports):
            if not self.process.running() or time.monotonic() > end:
                raise RuntimeError(f"{self.name} does not listen:\n{self.process.said()[-2000:]}")
            await asyncio.sleep(0.02)

    async def stop(self, number=signal.SIGTERM):
        self.process.signal(number)
        end = time.monotonic() + 15
        while self.process.running():
            if time.monotonic() > end:
                raise TimeoutError(f"{self.name} did not stop")
            await asyncio.sleep(0.02)
        self.stage.processes.remove(self.process)


class RedisServer(Server):
    def __init__(self, stage, name, port, password=None):
        super().__init__(stage, name, port)
        self.password = password

    def argv(self):
        return [find_program("redis-server"), "--port", self.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                "--dir", self.dir, "--maxclients", "2000", *(["--requirepass", self.password] if self.password else [])]


class StreamServer(Server):
    """streams.py; what it prints are its verdicts."""

    def argv(self):
        return [sys.executable, HERE / "streams.py", "serve", self.name, self.port]


class EchoServer(Server):
    """idle.py: many connections, few bytes."""

    def argv(self):
        return [sys.executable, HERE / "idle.py", self.name, self.port]


class Dnsmasq(Server):
    def argv(self):
        hosts = [f"--host-record=h{i}.test,10.9.8.{i}" for i in range(50)]
        return [find_program("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file=",
                "--log-facility=-", f"--port={self.port}", "--listen-address=127.0.0.1", "--bind-interfaces", "--local=/test/",
                "--user=", "--group=", f"--txt-record=who.test,{self.name}", *hosts]


class Nginx(Server):
    """nginx with a configuration of ours; `stream` needs Debian's libnginx-mod-stream, or nginx.org's package."""

    def argv(self):
        conf = self.dir / "nginx.conf"
        module = next((f"load_module {m};" for m in STREAM_MODULES if m.exists()), "")
        conf.write_text(f"""\
{module}
daemon off;
worker_processes 1;
pid {self.dir}/pid;
error_log stderr warn;
events {{ worker_connections 4000; }}
{self.configuration()}
""")
        return [find_program("nginx"), "-p", self.dir, "-c", conf]

    def http(self, inner):
        d = self.dir
        return f"""\
http {{
    access_log off;
    sendfile off;
    keepalive_timeout 300s;
    keepalive_requests 100000000;
    client_body_temp_path {d}/t1; proxy_temp_path {d}/t2; fastcgi_temp_path {d}/t3; uwsgi_temp_path {d}/t4; scgi_temp_path {d}/t5;
    add_header X-Server {self.name} always;
{inner}
}}"""


class TlsNginx(Nginx):
    """HTTPS for several pools, each on a port and with a certificate of its own."""

    def __init__(self, stage, name, ports, certificates):
        super().__init__(stage, name, *ports.values())
        self.by_pool, self.certificates = ports, certificates

    def configuration(self):
        return self.http("\n".join(f"""
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {self.certificates[pool].path};
        ssl_certificate_key {self.certificates[pool].key};
        location /static/ {{ alias {self.stage.dir}/www/; }}
    }}""" for pool, port in self.by_pool.items()))


SEEN = "$proxy_protocol_addr:$proxy_protocol_port"


class NginxBack(Nginx):
    """Wants a PROXY header, over plain HTTP and over TLS, and says whom it names."""

    def __init__(self, stage, name, ports, certificate):
        super().__init__(stage, name, *ports)
        self.certificate = certificate

    def configuration(self):
        plain, tls = self.ports
        answer = f"add_header X-Seen {SEEN} always; return 200 ok;"
        return self.http(f"""
    server {{ listen 127.0.0.1:{plain} proxy_protocol; location / {{ {answer} }} }}
    server {{
        listen 127.0.0.1:{tls} ssl proxy_protocol;
        ssl_certificate {self.certificate.path};
        ssl_certificate_key {self.certificate.key};
        location / {{ {answer} }}
    }}""")


class NginxFront(Nginx):
    """Sends PROXY v1 (it knows no other) to each of `targets`: ports of ours → ports behind."""

    def __init__(self, stage, name, targets):
        super().__init__(stage, name, *targets)
        self.targets = targets

    def configuration(self):
        return "stream {\n" + "\n".join(
            f"    server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{to}; proxy_protocol on; }}"
            for port, to in self.targets.items()) + "\n}"


class Haproxy(Server):
    def argv(self):
        conf = self.dir / "haproxy.cfg"
        conf.write_text(f"""\
global
    nbthread 1
    maxconn 2000
defaults
    mode tcp
    timeout connect 3s
    timeout client 600s
    timeout server 600s
{self.configuration()}
""")
        return [find_program("haproxy"), "-db", "-f", conf]


class HaproxyBack(Haproxy):
    """Wants a PROXY header and says whom it names."""

    def configuration(self):
        return f"""\
frontend back
    mode http
    bind 127.0.0.1:{self.port} accept-proxy
    http-request return status 200 hdr X-Server {self.name} hdr X-Seen "%[src]:%[src_port]" content-type text/plain string ok
"""


class HaproxyFront(Haproxy):
    """Sends PROXY headers: `targets` maps ports of ours to (how, port behind)."""

    HOW = {"v1": "send-proxy", "v2": "send-proxy-v2", "v2 with TLVs": "send-proxy-v2 proxy-v2-options crc32c,unique-id"}

    def __init__(self, stage, name, targets):
        super().__init__(stage, name, *targets)
        self.targets = targets

    def configuration(self):
        return "\n".join(f"""\
listen to{port}
    bind 127.0.0.1:{port}
    unique-id-format %ci_%cp_%Ts
    server behind 127.0.0.1:{to} {self.HOW[how]}
""" for port, (how, to) in self.targets.items())


class Certificate:
    """Made by openssl for some names; known by its fingerprint."""

    def __init__(self, folder, name, hosts):
        self.path, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        subprocess.run(
            [find_program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "30", "-subj", f"/CN={hosts[0]}", "-addext", "subjectAltName=" + ",".join(f"DNS:{h}" for h in hosts),
             "-keyout", self.key, "-out", self.path],
            check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=20)
        self.key.chmod(0o644)
        self.fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.path.read_text())).hexdigest()
