"""The balancer as an operator has it: commands, status and ledger over the admin socket, a log that goes through a pipe, and
whichever process is in force after upgrades."""

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import threading
import time
import urllib.request

from clients import Bad, Connection
from scene import Balancer
from stage import accepts, wait_until

F_SETPIPE_SZ = 1031


class Log:
    """Standard error, as a log pipeline has it: a small pipe with a reader that may cease to read for a while."""

    def __init__(self, path):
        self.path = path
        self.reads = threading.Event()
        self.reads.set()
        ours, self.theirs = os.pipe()
        fcntl.fcntl(ours, F_SETPIPE_SZ, 4096)
        threading.Thread(target=self.copy, args=(ours,), daemon=True).start()

    def copy(self, ours):
        with open(self.path, "ab", buffering=0) as out, os.fdopen(ours, "rb", buffering=0) as pipe:
            while self.reads.wait() and (data := pipe.read(4096)):
                out.write(data)

    def given(self):
        """The process has its end of it."""
        os.close(self.theirs)

    def text(self):
        return self.path.read_text(errors="replace") if self.path.exists() else ""


class Said:
    """How a command ended; `code` is None if it did not within the time it had."""

    def __init__(self, arguments, code, out, err, seconds):
        self.arguments, self.code, self.out, self.err, self.seconds = arguments, code, out, err, seconds

    def __str__(self):
        words = " ".join((self.err or self.out).split())[:300]
        return f"`evenkeel {' '.join(self.arguments)}` ended with {self.code} after {self.seconds:.1f} s: {words}"


class Operated(Balancer):
    def __init__(self, stage, binary):
        super().__init__(stage, binary)
        self.socket = str(stage.dir / "admin.sock")
        self.events_path = stage.dir / "events.jsonl"
        self.log = None

    async def start(self):
        """Returns when it accepts; the servers that it probes first may be this run's own."""
        self.write()
        self.log = Log(self.stage.dir / "evenkeel.log")
        self.process = self.stage.start("evenkeel", [self.binary, "run", "-c", self.conf_path], stderr=self.log.theirs)
        self.log.given()
        end = time.monotonic() + 30
        while not accepts(self.admin_port):
            if not self.process.running() or time.monotonic() > end:
                # What it said last may still be in the pipe.
                await asyncio.sleep(0.2)
                raise RuntimeError(f"the balancer does not listen ({self.process.popen.poll()}):\n{self.log.text()[-2000:]}")
            await asyncio.sleep(0.02)

    def pids(self):
        """Every process that runs this configuration, those of upgrades too."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/cmdline", "rb") as f:
                    words = f.read().split(b"\0")
                if b"run" in words and str(self.conf_path).encode() in words:
                    found.append(int(name))
            except OSError:
                pass
        return sorted(found)

    @staticmethod
    def signal(pid, number):
        """It may have ended by itself in this moment."""
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass

    def kill(self):
        """Whatever is left of it, at once."""
        if self.log:
            self.log.reads.set()
        for pid in self.pids():
            self.signal(pid, signal.SIGKILL)
        if self.process:
            self.stage.forget(self.process)
            self.process = None
        # Those of upgrades are nobody's children here; their addresses are free when they are gone.
        wait_until(lambda: not self.pids(), 5, "killed processes to be gone")

    async def command(self, *arguments, patience=30):
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            self.binary, *arguments, "--socket", self.socket,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = await asyncio.wait_for(process.communicate(), patience)
        except asyncio.TimeoutError:
            process.kill()
            await process.wait()
            return Said(arguments, None, "", "no answer", time.monotonic() - began)
        return Said(arguments, process.returncode, out.decode(), err.decode(), time.monotonic() - began)

    async def ask(self, path, patience=5):
        """What the API answers; raises `Bad`."""
        connection = Connection(self.socket)
        try:
            await connection.open()
            reply = await asyncio.wait_for(connection.exchange("GET", path, host="localhost"), patience)
        except asyncio.TimeoutError:
            raise Bad("timeout", f"{path}: no answer in {patience} s") from None
        finally:
            connection.close()
        if reply.status != 200:
            raise Bad("status", f"{path}: {reply.status} {reply.body[:200]!r}")
        return json.loads(reply.body)

    async def status(self):
        return await self.ask("/api/v1/status")

    async def series(self, name):
        """The sum of a metric, asked without holding up this run's own servers."""
        return await asyncio.get_running_loop().run_in_executor(None, self.metric, name)

    async def events(self, after):
        return (await self.ask(f"/api/v1/events?after={after}&limit=10000"))["events"]


class Pulse:
    """Asks `/livez` ten times a second, from a thread of its own, and notes whatever took longer than a second."""

    def __init__(self, balancer, limit_s=1.0):
        self.url, self.limit_s = f"http://127.0.0.1:{balancer.admin_port}/livez", limit_s
        self.late, self.worst, self.beats = [], 0.0, 0
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.beat, daemon=True)

    def start(self):
        self.thread.start()
        return self

    def beat(self):
        while not self.stopped.wait(0.1):
            began, why = time.monotonic(), ""
            try:
                with urllib.request.urlopen(self.url, timeout=10) as reply:
                    reply.read()
            except OSError as e:
                why = repr(e)
            took = time.monotonic() - began
            self.beats, self.worst = self.beats + 1, max(self.worst, took)
            if (why or took > self.limit_s) and not self.stopped.is_set():
                self.late.append(f"/livez after {took:.2f} s {why}")

    def take_late(self):
        taken, self.late = self.late, []
        return taken
