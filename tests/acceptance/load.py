"""Load from wrk and h2load, paced, and what they counted."""

import asyncio
import re
import signal
import time
from collections import Counter

from stage import find_program


class Wrk:
    """Paced GETs over kept-alive connections; small replies only, which a killed server never cuts in two."""

    def __init__(self, stage, name, port, paths, connections=24, delay_ms=(5, 40), seconds=600):
        script = stage.dir / f"{name}.lua"
        listed = ", ".join(f'"{p}"' for p in paths)
        script.write_text(
            f"local paths = {{ {listed} }}\nlocal i = 0\n"
            "request = function() i = i + 1 return wrk.format('GET', paths[i % #paths + 1]) end\n"
            + (f"delay = function() return math.random({delay_ms[0]}, {delay_ms[1]}) end\n" if delay_ms else ""))
        self.process = stage.start(name, [
            find_program("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "-s", script,
            "-H", "User-Agent: wrk", f"http://127.0.0.1:{port}/"])

    async def result(self, interrupt=True):
        if interrupt:
            self.process.signal(signal.SIGINT)
        end = time.monotonic() + 30
        while self.process.running() and time.monotonic() < end:
            await asyncio.sleep(0.05)
        text = self.process.said()
        total = re.search(r"(\d+) requests in", text)
        errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
        bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
        return {
            "requests": int(total[1]) if total else 0,
            "failed": int(bad[1]) if bad else 0,
            "reset": sum(int(n) for n in errors.groups()[:3]) if errors else 0,
            "timeout": int(errors[4]) if errors else 0,
            "said": text,
        }


class H2load:
    """HTTP/2 by prior knowledge in rounds of some ten seconds, each with new connections, until told to stop."""

    def __init__(self, stage, port, paths, without_h2=False):
        self.stage, self.port, self.paths, self.without_h2 = stage, port, paths, without_h2
        self.stop = asyncio.Event()
        self.sum = Counter()
        self.complaints = []

    async def run(self):
        number = 0
        while not self.stop.is_set():
            number += 1
            protocol = ["--h1"] if self.without_h2 else []
            count = 600 if self.without_h2 else 3600
            process = self.stage.start(f"h2load{number}", [
                find_program("h2load"), *protocol, "-c6", "-m8", f"-n{count}", f"--rps={count // 60}", "-T60s", "-N60s",
                "-H", "user-agent: h2load", *[f"http://127.0.0.1:{self.port}{p}" for p in self.paths]])
            while process.running():
                await asyncio.sleep(0.1)
            self.stage.processes.remove(process)
            text = process.said()
            got = re.search(r"requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, "
                            r"(\d+) failed, (\d+) errored, (\d+) timeout", text)
            codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
            if not got or not codes:
                self.complaints.append(text[-1000:])
                self.sum["reset"] += count
                continue
            total, _, _, _, failed, errored, timeout = (int(n) for n in got.groups())
            self.sum["requests"] += total
            statuses = int(codes[2]) + int(codes[3]) + int(codes[4])
            self.sum["failed"] += statuses
            # h2load's `failed` holds bad statuses, errors and timeouts alike.
            self.sum["reset"] += max(failed - statuses - timeout, errored)
            self.sum["timeout"] += timeout
            if failed or statuses:
                self.complaints.append("\n".join(re.findall(r"^(?:requests|status codes):.*", text, re.M)))
