"""Many pools in one process, each with a listener, app servers and clients of its own: as many trials of one thing at once."""

import asyncio
import json
import random
import time

from light_http import Client, listen
from stage import free_ports


class Server:
    """One app server: answers after `takes` seconds with `status`, and knows when it was asked."""

    def __init__(self, name, rng):
        self.name, self.rng = name, rng
        self.takes, self.errors, self.status = 0.0, 0.0, 503
        self.asked_at, self.failed = [], 0

    def asked(self, path, connection):
        # Probes are no requests.
        if path == "/healthz":
            return connection.reply()
        self.asked_at.append(time.monotonic())
        has_failed = self.rng.random() < self.errors
        self.failed += has_failed
        asyncio.get_running_loop().call_later(self.lasts(), self.finish, connection, has_failed)

    def lasts(self):
        return self.takes * self.rng.lognormvariate(0, 0.3)

    def finish(self, connection, has_failed):
        if has_failed and self.status is None:
            connection.reset()
        else:
            connection.reply(self.status if has_failed else 200)

    def between(self, begin, end):
        return sum(1 for at in self.asked_at if begin <= at < end)


class Pool:
    """`servers` of them, with `settings` as in YAML."""

    def __init__(self, name, servers, settings, rng):
        self.name, self.settings, self.rng = name, settings, random.Random(rng.random())
        self.servers = [Server(f"s{place}", random.Random(rng.random())) for place in range(servers)]
        self.port, self.statuses, self.asks = None, {}, []

    async def listen(self):
        self.listening = [await listen(server) for server in self.servers]

    def yaml(self):
        servers = ", ".join(
            f"{{ name: {server.name}, address: 127.0.0.1:{port} }}"
            for server, (port, _) in zip(self.servers, self.listening))
        return f"{{ servers: [{servers}], {self.settings} }}"

    async def load(self, rate, count=None):
        """Clients that come by chance at this rate, `count` of them or until it is cancelled."""
        client, at, sent = Client(self.port), time.monotonic(), 0
        try:
            while count is None or sent < count:
                at += self.rng.expovariate(rate)
                # Once at least for each, or one that is late would never be done with being late.
                await asyncio.sleep(max(0.0, at - time.monotonic()))
                self.asks.append(asyncio.create_task(self.ask(client)))
                sent += 1
                if len(self.asks) > 1000:
                    self.asks = [ask for ask in self.asks if not ask.done()]
        finally:
            await asyncio.gather(*self.asks, return_exceptions=True)
            client.close()

    async def ask(self, client):
        status = await client.ask(patience=30)
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def seen(self):
        """Requests that its servers have had."""
        return sum(len(server.asked_at) for server in self.servers)


class ManyPools:
    def __init__(self, stage, binary, pools):
        self.stage, self.binary, self.pools = stage, str(binary), pools
        self.read, self.lines = 0, []

    async def start(self):
        for pool in self.pools:
            await pool.listen()
        for pool, port in zip(self.pools, free_ports(len(self.pools))):
            pool.port = port
        conf = self.stage.dir / "evenkeel.yaml"
        conf.write_text(
            f"admin: {{ address: null, socket: {self.stage.dir}/admin.sock, state_file: null }}\n"
            "access_log: off\nlog: { format: json }\nlisteners:\n"
            + "".join(f"  {pool.name}: {{ address: 127.0.0.1:{pool.port}, pool: {pool.name} }}\n" for pool in self.pools)
            + "pools:\n" + "".join(f"  {pool.name}: {pool.yaml()}\n" for pool in self.pools))
        self.process = self.stage.start("evenkeel", [self.binary, "run", "-c", conf])
        waiting = (self.stage.wait_for_port, self.process, self.pools[-1].port)
        await asyncio.get_running_loop().run_in_executor(None, *waiting)
        return self

    async def stop(self):
        await asyncio.get_running_loop().run_in_executor(None, self.stage.forget, self.process)
        for pool in self.pools:
            for _, listener in pool.listening:
                listener.close()

    async def command(self, *arguments):
        """What a command prints."""
        argv = [self.binary, *arguments, "--socket", str(self.stage.dir / "admin.sock")]
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
        out, err = await process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)}: {err.decode()}")
        return out.decode()

    async def status(self):
        """Each pool's servers by name, as `status` has them."""
        told = json.loads(await self.command("status", "--json"))
        return {pool["name"]: {server["name"]: server for server in pool["servers"]} for pool in told["pools"]}

    def log(self, message):
        """The records of the process's log so far with this message."""
        with open(self.process.output, "rb") as f:
            f.seek(self.read)
            data = f.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.read += len(whole)
        self.lines += [json.loads(line) for line in whole.splitlines() if line.startswith(b"{")]
        return [line for line in self.lines if message in (line.get("message"), line.get("fields", {}).get("message"))]


async def all_ended(tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
