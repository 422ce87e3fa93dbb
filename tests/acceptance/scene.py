"""The scene of the acceptance run: real app servers, the balancer in front of them, and its configuration as data."""

import asyncio
import copy
import json
import os
import re
import signal
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from app import content
from stage import accepts, find_program, free_ports

HERE = Path(__file__).resolve().parent
FILE_SIZES = {"200b": 205, "2k": 2048, "16k": 16384, "100k": 100_000, "1m": 1 << 20}


def static_files():
    return {name: content(size, name) for name, size in FILE_SIZES.items()}


class AppServer:
    """A Python app (app.py) or an nginx with static files; can be killed, stopped gracefully and started again."""

    def __init__(self, stage, name, kind, port):
        self.stage, self.name, self.kind, self.port = stage, name, kind, port
        self.process = None
        # (from, to) in Unix time, for each kill -9: what was in flight on it then had no chance.
        self.killed = []

    async def start(self):
        if self.kind == "app":
            argv = [sys.executable, HERE / "app.py", self.name, self.port]
        else:
            argv = [find_program("nginx"), "-p", self.stage.dir / self.name, "-c", self.write_nginx_conf()]
        self.process = self.stage.start(self.name, argv)
        end = time.monotonic() + 20
        while not accepts(self.port):
            if not self.process.running() or time.monotonic() > end:
                raise RuntimeError(f"{self.name} does not listen:\n{self.process.said()[-2000:]}")
            await asyncio.sleep(0.02)

    def write_nginx_conf(self):
        home = self.stage.dir / self.name
        home.mkdir(exist_ok=True)
        www = self.stage.dir / "www"
        conf = home / "nginx.conf"
        # sendfile off: head and body leave in one write, so a kill never cuts a small reply in two.
        conf.write_text(f"""\
daemon off;
worker_processes 1;
pid {home}/pid;
error_log stderr warn;
events {{ worker_connections 4000; }}
http {{
    access_log off;
    sendfile off;
    output_buffers 1 128k;
    keepalive_timeout 300s;
    keepalive_requests 100000000;
    client_body_temp_path {home}/t1; proxy_temp_path {home}/t2; fastcgi_temp_path {home}/t3;
    uwsgi_temp_path {home}/t4; scgi_temp_path {home}/t5;
    add_header X-Server {self.name} always;
    server {{
        listen 127.0.0.1:{self.port};
        location /static/ {{ alias {www}/; }}
        location /static/slow/ {{ alias {www}/; limit_rate 8k; }}
        location /healthz {{ return 200 "ok\\n"; }}
    }}
}}
""")
        return conf

    def kill(self):
        """kill -9 of the whole server, as when its machine is gone."""
        began = time.time()
        self.process.kill_group()
        self.killed.append((began, time.time()))
        self.stage.processes.remove(self.process)

    async def stop_gracefully(self):
        """As a deploy does it: finish what runs, then leave."""
        self.process.signal(signal.SIGTERM if self.kind == "app" else signal.SIGQUIT)
        end = time.monotonic() + 15
        while self.process.running():
            if time.monotonic() > end:
                raise TimeoutError(f"{self.name} did not stop")
            await asyncio.sleep(0.02)
        self.stage.processes.remove(self.process)

    async def control(self, query):
        """Tells an app something, past the balancer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET /_control?{query} HTTP/1.1\r\nHost: control\r\nConnection: close\r\n\r\n".encode())
        await asyncio.wait_for(reader.read(), 10)
        writer.close()


# --- YAML -------------------------------------------------------------------------------------------------


def scalar(value):
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    return value if re.fullmatch(r"[A-Za-z_/][\w./-]*|\d+(ms|s|m|h|KiB|MiB|%)", value) and value not in ("null", "true", "false") \
        else json.dumps(value)


def flow(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k}: {flow(v)}" for k, v in value.items()) + " }" if value else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(v) for v in value) + "]"
    return scalar(value)


def yaml(value, depth=0):
    """Block style for the outer levels, as people write it; flow style for short things further in."""
    pad = "  " * depth
    lines = []
    for key, inner in value.items():
        if isinstance(inner, dict) and (depth < 2 or len(flow(inner)) > 70):
            lines.append(f"{pad}{key}:")
            lines.append(yaml(inner, depth + 1))
        elif isinstance(inner, list) and inner and isinstance(inner[0], dict):
            lines.append(f"{pad}{key}:")
            lines += [f"{pad}  - {flow(item)}" for item in inner]
        else:
            lines.append(f"{pad}{key}: {flow(inner)}")
    return "\n".join(lines)


# --- The balancer -----------------------------------------------------------------------------------------


class Refused(Exception):
    """A reload that should have worked was refused."""


class Balancer:
    def __init__(self, stage, binary):
        self.stage, self.binary = stage, binary
        self.conf_path = stage.dir / "evenkeel.yaml"
        self.access_log = stage.dir / "access.log"
        self.rotated_log = stage.dir / "access.log.1"
        (self.admin_port,) = free_ports(1)
        self.conf = {}
        self.in_force = {}
        self.reload_times_ms = []
        # generation → what was in force: {pool: {server: "ready" or "drain"}}
        self.generations = {}
        self.process = None

    @property
    def pid(self):
        return self.process.pid

    def write(self, text=None):
        """As an editor or a deploy does it: a whole new file in the old one's place."""
        fresh = self.conf_path.with_suffix(".new")
        fresh.write_text(text if text is not None else yaml(self.conf) + "\n")
        os.replace(fresh, self.conf_path)

    def start(self):
        self.write()
        self.process = self.stage.start("evenkeel", [self.binary, "run", "-c", self.conf_path])
        self.stage.wait_for_port(self.process, self.admin_port)

    def admin_section(self):
        return {
            "address": f"127.0.0.1:{self.admin_port}",
            "socket": str(self.stage.dir / "admin.sock"),
            "state_file": str(self.stage.dir / "state.json"),
        }

    def get(self, path):
        """Status and text of one request to the admin address; (0, "") if there is none."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=5) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode(errors="replace")
        except OSError:
            return 0, ""

    def scrape(self):
        """All series: {(name, ((label, value), …)): number}."""
        _, text = self.get("/metrics")
        series = {}
        for line in text.splitlines():
            if line and line[0] != "#":
                got = re.match(r"(\w+)(?:\{(.*)\})? (\S+)", line)
                if got:
                    labels = tuple(sorted(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', got[2] or "")))
                    series[(got[1], labels)] = float(got[3])
        return series

    def metric(self, name, **labels):
        """The sum of the series with this name and at least these labels; None if there is none."""
        wanted = set(labels.items())
        found = [v for (n, have), v in self.scrape().items() if n == name and wanted <= set(have)]
        return sum(found) if found else None

    async def wait_metric(self, fact, deadline_s, what):
        end = time.monotonic() + deadline_s
        while True:
            loop = asyncio.get_running_loop()
            if fact(await loop.run_in_executor(None, self.scrape)):
                return
            if not self.process.running():
                raise RuntimeError(f"the balancer ended with {self.process.popen.returncode}:\n{self.process.said()[-3000:]}")
            if time.monotonic() > end:
                raise TimeoutError(f"waited {deadline_s:g} s for {what}")
            await asyncio.sleep(0.01)

    def note_generation(self, number):
        self.in_force = copy.deepcopy(self.conf)
        self.generations[number] = {
            pool: {s["name"]: "drain" if s.get("drain") else "ready" for s in keys["servers"]}
            for pool, keys in self.conf["pools"].items()}

    def forget_wishes(self):
        """What was changed since the last reload is taken back."""
        self.conf = copy.deepcopy(self.in_force)

    async def generation(self):
        loop = asyncio.get_running_loop()
        value = await loop.run_in_executor(None, lambda: self.metric("evenkeel_config_generation"))
        return int(value) if value is not None else -1

    async def reload(self):
        """Writes the configuration, signals, and waits until the next generation is in force."""
        before = await self.generation()
        self.write()
        began = time.monotonic()
        self.process.signal(signal.SIGHUP)

        def in_force(series):
            if series.get(("evenkeel_config_last_reload_successful", ()), 1) == 0 \
                    and time.monotonic() - began > 1:
                raise Refused(self.process.said()[-2000:])
            return series.get(("evenkeel_config_generation", ()), 0) > before

        await self.wait_metric(in_force, 10, f"generation {before + 1}")
        self.reload_times_ms.append((time.monotonic() - began) * 1000)
        now = await self.generation()
        self.note_generation(now)
        return now

    async def reload_refused(self, text):
        """A reload that must be refused: returns the generation before and after, and what the log said about it."""
        before = await self.generation()
        said = len(self.process.said())
        self.write(text)
        self.process.signal(signal.SIGHUP)
        await self.wait_metric(lambda s: s.get(("evenkeel_config_last_reload_successful", ())) == 0, 10,
                               "evenkeel_config_last_reload_successful 0")
        return before, await self.generation(), self.process.said()[said:]

    def log_records(self):
        """All records of the access log, the rotated file included."""
        for path in (self.rotated_log, self.access_log):
            if path.exists():
                with open(path, "rb") as f:
                    for line in f:
                        try:
                            yield json.loads(line)
                        except ValueError:
                            yield {"broken": line.decode(errors="replace")}
