"""What a run puts on stage: processes that are all ended with it, ports, and what the kernel says about them.

Shared by tests/acceptance/run and benches/peers/run. Standard library only; Linux only.
"""

import asyncio
import ctypes
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
TICKS = os.sysconf("SC_CLK_TCK")
_libc = ctypes.CDLL(None, use_errno=True)


class Ended(Exception):
    """A signal asked the run to end."""


def end_on_signals():
    """Turns SIGTERM, SIGINT and SIGHUP into an exception, so that every `with` and `finally` runs."""

    def raise_ended(number, _frame):
        # The clean-up that follows must not be interrupted half-way.
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        raise Ended(signal.Signals(number).name)

    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, raise_ended)


def raise_open_file_limit():
    """Raises the soft limit to the hard one; children inherit it. Returns what is in force."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def find_program(name):
    """The path of a program, also where Debian keeps servers; None if there is none."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin")


_given = set()


def free_ports(count, host="127.0.0.1"):
    """Ports the kernel chose, none of them twice. It gives odd ones to bind and even ones to connect, so none is taken
    meanwhile."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    held, ports = [], []
    try:
        while len(ports) < count:
            s = socket.socket(family, socket.SOCK_STREAM)
            held.append(s)
            s.bind((host, 0))
            port = s.getsockname()[1]
            if port not in _given:
                _given.add(port)
                ports.append(port)
        return ports
    finally:
        for s in held:
            s.close()


def accepts(port, host="127.0.0.1"):
    try:
        socket.create_connection((host, port), timeout=1).close()
        return True
    except OSError:
        return False


def wait_until(fact, deadline_s, what):
    """Polls `fact` until it is true; says what was awaited if it never is."""
    end = time.monotonic() + deadline_s
    while True:
        value = fact()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"waited {deadline_s:g} s for {what}")
        time.sleep(0.02)


class Process:
    def __init__(self, name, popen, output):
        self.name = name
        self.popen = popen
        self.output = output

    @property
    def pid(self):
        return self.popen.pid

    def running(self):
        return self.popen.poll() is None

    def signal(self, number):
        if self.running():
            self.popen.send_signal(number)

    def kill_group(self):
        """kill -9 for the process and its children, as a crash of the whole server."""
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait()

    def end(self, grace_s=3.0):
        if self.running():
            self.popen.terminate()
            try:
                self.popen.wait(grace_s)
            except subprocess.TimeoutExpired:
                pass
        # The leader may be gone and a child left: the group is ours, so this reaches nobody else.
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self.popen.wait()

    def said(self):
        return Path(self.output).read_text(errors="replace") if self.output else ""


class Stage:
    """Use as `with Stage() as stage:`; whatever it started is ended when the block is left, however it is left."""

    def __init__(self, prefix):
        self.prefix = prefix
        self.processes = []
        self.keep_files = False
        # For a run with a library that has threads of its own, like gRPC's: a copy of such a process may abort before it
        # becomes the program. Then nothing of ours runs in between, and setpriv (util-linux) does what else is to be done.
        self.has_threads = False

    def __enter__(self):
        self.dir = Path(tempfile.mkdtemp(prefix=self.prefix))
        # Servers that are started as root drop to another user, who must be able to read the files.
        self.dir.chmod(0o755)
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.end()
        if self.keep_files:
            print(f"files kept in {self.dir}", file=sys.stderr)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def start(self, name, argv, cores=None, env=None, stdout=None, stderr=None):
        """Starts a program in a process group of its own; it is told to end if this one dies without a word. What it says
        goes to a file, unless there is somewhere else for it."""
        output = self.dir / f"{name}.out"

        def before_exec():
            os.setsid()
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if cores is not None:
                os.sched_setaffinity(0, cores)

        how = {"preexec_fn": before_exec}
        if self.has_threads:
            assert cores is None, "cores are not chosen here"
            how = {"start_new_session": True}
            argv = [find_program("setpriv"), "--pdeathsig", "TERM", "--", *argv]
        with open(output, "ab") as out:
            popen = subprocess.Popen(
                [str(a) for a in argv],
                stdin=subprocess.DEVNULL,
                stdout=stdout if stdout is not None else out,
                stderr=stderr if stderr is not None else out,
                env=env,
                cwd=self.dir,
                **how,
            )
        process = Process(name, popen, output)
        self.processes.append(process)
        return process

    def forget(self, process):
        process.end()
        self.processes.remove(process)

    def wait_for_port(self, process, port, host="127.0.0.1", deadline_s=20):
        def up():
            if not process.running():
                raise RuntimeError(f"{process.name} ended with {process.popen.returncode}:\n{process.said()[-2000:]}")
            return accepts(port, host)

        wait_until(up, deadline_s, f"{process.name} to listen on port {port}")


def family_of(pid):
    """The process and all its descendants."""
    found = [pid]
    for each in found:
        try:
            for task in os.listdir(f"/proc/{each}/task"):
                found += [int(c) for c in Path(f"/proc/{each}/task/{task}/children").read_text().split()]
        except OSError:
            pass
    return found


def cpu_seconds(pid):
    """User and system time of the process, its threads and its descendants."""
    ticks = 0
    for each in family_of(pid):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        except OSError:
            pass
    return ticks / TICKS


def resident_kib(pid):
    """Resident memory of the process and its descendants; pages that they share count once (Pss)."""
    total = 0
    for each in family_of(pid):
        try:
            for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        except OSError:
            pass
    return total


def anonymous_kib(pid):
    """Resident memory of the process that is no file's: what grows when it leaks, whoever else runs the same program."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def run_until_signalled(played):
    """`asyncio.run`, with SIGTERM, SIGINT and SIGHUP as a cancellation: an exception in the midst of whatever task runs might be
    taken for that task's own. Raises `Ended` then."""
    ended = []

    async def watched():
        me, loop = asyncio.current_task(), asyncio.get_running_loop()

        def cancel():
            # More than once: `asyncio.wait_for` may swallow a cancellation that comes as it ends.
            me.cancel()
            loop.call_later(2, cancel)

        def end(number):
            if not ended:
                ended.append(number)
                cancel()

        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(each, end, each)
        await played

    try:
        asyncio.run(watched())
    except asyncio.CancelledError:
        raise Ended(ended[0].name if ended else "a cancellation") from None


def open_files(pid):
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return -1
