"""What the discovery run has beside the balancer: app servers, and the sources that name them. Ports are the kernel's choice;
addresses are of 127/8, which is all this machine."""

import asyncio
import json
import os

from discovery_dns import Dns
from discovery_load import App
from stage import free_ports

OLD = [f"127.1.0.{n}" for n in range(1, 8)]
NEW = [f"127.1.1.{n}" for n in range(1, 8)]
# Nobody listens there: whoever uses it fails.
DEAD = "127.1.9.9"
MANY = [f"127.2.{n // 250}.{n % 250 + 1}" for n in range(1000)]
NAME, MANY_NAME, SERVICE = "app.test", "many.test", "_http._tcp.srv.test"
GOOD, FAILING, GARBAGE, EMPTY, ENDLESS = "good", "500", "garbage", "empty", "10 MiB"


def http_sd(addresses, port):
    """As Prometheus has it."""
    return json.dumps([{"targets": [f"{address}:{port}" for address in addresses]}])


class WebSource:
    """A web server that names app servers, well or badly. `form` makes its text of addresses, a port and the pool."""

    def __init__(self, form):
        self.form, self.how, self.lists = form, GOOD, {}
        self.port = free_ports(1)[0]
        self.server = None
        # What was asked since the last change of how.
        self.n_asked = 0

    def behave(self, how):
        self.how, self.n_asked = how, 0

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)

    def stop(self):
        self.server.close()
        self.server = None

    def answer(self, path):
        addresses, port = self.lists[path]
        good = self.form(addresses, port, path).encode()
        if self.how == FAILING:
            return 500, self.form([DEAD], port, path).encode()
        if self.how == GARBAGE:
            return 200, good[:len(good) // 2]
        if self.how == EMPTY:
            return 200, self.form([], port, path).encode()
        if self.how == ENDLESS:
            # Who takes it is not misled.
            return 200, good + b" " * (10 << 20)
        return 200, good

    async def serve(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                status, body = self.answer(head.split(b" ", 2)[1].decode())
                self.n_asked += 1
                writer.write(f"HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                             .encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, KeyError):
            pass
        finally:
            writer.close()


class World:
    """`form`: what the web server's answers look like; `file_form`: what is in files."""

    def __init__(self, stage, form=lambda addresses, port, _path: http_sd(addresses, port), file_form=http_sd):
        self.file_form = file_form
        self.stage = stage
        self.dns, self.web = Dns(stage), WebSource(form)
        self.port, self.many_port = free_ports(2)
        self.apps = {}
        self.list_dir = stage.dir / "lists"
        self.list_dir.mkdir()
        self.file = self.list_dir / "servers.json"
        self.link = self.list_dir / "current"
        self.n_links = 0

    async def start(self):
        many = App("0.0.0.0", self.many_port)
        await many.start()
        for address in [*OLD, *NEW]:
            await self.live(address)
        await self.web.start()
        self.reset_lists()
        await self.dns.serve(self.services({}))

    async def live(self, address):
        if address not in self.apps:
            self.apps[address] = App(address, self.port)
            await self.apps[address].start()

    def die(self, address):
        self.apps.pop(address).die()

    def reset_lists(self):
        """As at the beginning, whatever has happened."""
        self.dns.names = {NAME: OLD, MANY_NAME: MANY[:1], **{f"srv{n}.test": [address] for n, address in enumerate(OLD)}}
        self.web.behave(GOOD)
        self.web.lists = {"/app": (OLD, self.port), "/many": (MANY[:1], self.many_port)}
        self.replace_file(OLD)
        self.swap_link(OLD)

    def services(self, changed):
        """Three servers of priority 10 and three of priority 20, all of weight 10, but for what `changed` says of some."""
        usual = {n: (10 if n < 3 else 20, 10) for n in range(6)}
        return [(SERVICE, f"srv{n}.test", self.port, *how) for n, how in {**usual, **changed}.items()]

    def lead(self, by, addresses, pool="app"):
        """Has a source name other servers from now on."""
        port = self.port if pool == "app" else self.many_port
        if by == "dns":
            self.dns.lead(NAME if pool == "app" else MANY_NAME, addresses)
        else:
            self.web.lists[f"/{pool}"] = (addresses, port)

    def replace_file(self, addresses):
        fresh = self.file.with_suffix(".new")
        fresh.write_text(self.file_form(addresses, self.port))
        os.replace(fresh, self.file)

    def swap_link(self, addresses):
        """As Kubernetes does with a ConfigMap: another directory, and the link to it replaced."""
        self.n_links += 1
        home = self.list_dir / f"version-{self.n_links}"
        home.mkdir()
        (home / "servers.json").write_text(self.file_form(addresses, self.port))
        fresh = self.list_dir / "next"
        fresh.symlink_to(home)
        os.replace(fresh, self.link)
