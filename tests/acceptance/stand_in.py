"""HAProxy in evenkeel's place, made from the same configuration.

`l4 --through haproxy` tells a fault of the run's own servers and clients from a fault of evenkeel: what fails there as
well is the run's. Only what layer 4 needs is translated; metrics and the access log are evenkeel's alone. HAProxy 2.6
wants a PROXY header in one piece and a ClientHello in one TLS record, and has no short deadline for either: what asks for
more than that is left out.
"""

import asyncio
import csv
import io
import signal
import time

from scene import Balancer
from stage import find_program


def quoted(text):
    """As HAProxy's configuration wants strings: in quotes, with what it knows as escapes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "\\r").replace("\n", "\\n").replace("$", "\\$") + '"'


class StandIn(Balancer):
    # A server counts as up until its probes have failed.
    starts_probing = False

    def __init__(self, stage):
        super().__init__(stage, None)
        self.conf_path = stage.dir / "stand-in.cfg"
        self.number = 1

    def text(self):
        conf = self.conf
        parts = [f"""\
global
    nbthread 2
    maxconn 8500
    fd-hard-limit 20000
defaults
    mode tcp
    option redispatch 1
    retries 3
    timeout connect 3s
    timeout client 600s
    timeout server 600s
    default-server inter 500ms fastinter 100ms fall 2 rise 1
frontend admin
    mode http
    bind 127.0.0.1:{self.admin_port}
    stats enable
    stats uri /stats
    http-request return status 200 content-type text/plain string "{self.number}" if {{ path /generation }}
"""]
        for name, listener in conf["listeners"].items():
            parts.append(self.frontend(name, listener))
        for name, pool in conf["pools"].items():
            http = any(l["protocol"] == "http" and l.get("pool") == name for l in conf["listeners"].values())
            parts.append(self.backend(name, pool, http))
        return "\n".join(parts)

    def frontend(self, name, listener):
        if listener["protocol"] == "udp":
            return ""
        lines = [f"frontend {name}", f"    bind {listener['address']}", "    maxconn 8500"]
        if listener["protocol"] == "http":
            lines += ["    mode http", "    option forwardfor"]
        for network in listener.get("proxy_protocol", {}).get("from", []):
            lines.append(f"    tcp-request connection expect-proxy layer4 if {{ src {network} }}")
        if "pool" in listener:
            lines.append(f"    default_backend {listener['pool']}")
        else:
            lines += ["    tcp-request inspect-delay 5s", "    tcp-request content accept if { req_ssl_hello_type 1 }"]
            for rule in self.conf["routes"][listener["routes"]]:
                host = rule.get("match", {}).get("host")
                if host is None:
                    lines.append(f"    default_backend {rule['pool']}")
                elif host.startswith("*"):
                    lines.append(f"    use_backend {rule['pool']} if {{ req_ssl_sni -m end -i {host[1:]} }}")
                else:
                    lines.append(f"    use_backend {rule['pool']} if {{ req_ssl_sni -i {host} }}")
        return "\n".join(lines) + "\n"

    def backend(self, name, pool, http):
        balance = pool["balance"]
        if isinstance(balance, dict):
            ways = ["    balance source", "    hash-type consistent"]
        else:
            ways = [f"    balance {'leastconn' if balance == 'least_connections' else 'roundrobin'}"]
        lines = [f"backend {name}", *ways] + (["    mode http"] if http else [])
        probe = pool.get("health", {})
        if "tcp" in probe and "send" in probe["tcp"]:
            lines += ["    option tcp-check", "    tcp-check connect", f"    tcp-check send {quoted(probe['tcp']['send'])}",
                      f"    tcp-check expect string {quoted(probe['tcp']['expect'])}"]
        elif "http" in probe:
            lines.append(f"    option httpchk GET {probe['http']}")
        out = {"v1": " send-proxy check-send-proxy", "v2": " send-proxy-v2 check-send-proxy"}.get(pool.get("proxy_protocol"), "")
        for server in pool["servers"]:
            weight = 0 if server.get("drain") else server.get("weight", 100)
            check = " check" if probe else ""
            lines.append(f"    server {server['name']} {server['address']} weight {weight}{check}{out}")
        return "\n".join(lines) + "\n"

    def write(self, text=None):
        self.conf_path.write_text(text if text is not None else self.text())

    def start(self):
        self.write()
        self.process = self.stage.start("stand-in", [find_program("haproxy"), "-W", "-db", "-f", self.conf_path])
        self.stage.wait_for_port(self.process, self.admin_port)

    async def generation(self):
        status, text = await asyncio.get_running_loop().run_in_executor(None, self.get, "/generation")
        return int(text) if status == 200 else -1

    async def reload(self):
        self.number += 1
        self.write()
        began = time.monotonic()
        self.process.signal(signal.SIGUSR2)
        while await self.generation() < self.number:
            if time.monotonic() - began > 10:
                raise TimeoutError(f"no generation {self.number}:\n{self.process.said()[-2000:]}")
            await asyncio.sleep(0.02)
        self.reload_times_ms.append((time.monotonic() - began) * 1000)
        self.note_generation(self.number)
        return self.number

    async def wait_up(self, pool, server, up=True):
        end = time.monotonic() + 10
        while True:
            _, text = await asyncio.get_running_loop().run_in_executor(None, self.get, "/stats;csv")
            rows = [row for row in csv.reader(io.StringIO(text)) if row[:2] == [pool, server]]
            if rows and (rows[0][17].startswith("UP") or rows[0][17] == "no check" or rows[0][17] == "DRAIN") == up:
                return
            if time.monotonic() > end:
                raise TimeoutError(f"{pool}/{server} is {rows[0][17] if rows else 'not there'}")
            await asyncio.sleep(0.05)
