"""Reloads in the cross trials: good ones, ones that must be refused, and guarded ones."""

import asyncio
import copy
import hashlib
import os
import signal
import socket

from clients import Bad, Connection
from cross_model import Broken
from l4_servers import Certificate
from scene import yaml
from traffic import TlsConnection

LONE = b"GET /bytes/500/1 HTTP/1.1\r\nHost: lone\r\nConnection: close\r\n\r\n"


class Reloads:
    """The half of the acts that changes the file."""

    async def reload(self, conf, *options):
        """Puts `conf` in force. In the window of an upgrade a reload may be refused with a reason; afterwards it must not be."""
        scene = self.scene
        scene.about_to_reload(conf)
        self.balancer.conf = conf
        self.balancer.write()
        took_over = self.upgrading
        said = await self.balancer.command("reload", *options)
        if said.code == 1 and said.err.strip() and (took_over or self.upgrading):
            while self.upgrading:
                await asyncio.sleep(0.05)
            said = await self.balancer.command("reload", *options)
        if said.code != 0:
            raise Broken(str(said))
        self.scene.reloaded()
        return said

    async def good_reload(self, chance, how):
        conf = copy.deepcopy(self.balancer.conf)
        await getattr(self, f"change_{how}")(chance, conf)

    async def change_join(self, chance, conf):
        conf["pools"]["app"]["servers"].append(self.scene.server("a5", weight=chance.choice([50, 100, 200])))
        await self.reload(conf)
        await asyncio.sleep(chance.uniform(0, 0.5))
        conf = copy.deepcopy(conf)
        conf["pools"]["app"]["servers"].pop()
        await self.reload(conf)

    async def change_leave(self, chance, conf):
        servers = conf["pools"]["app"]["servers"]
        servers.remove(next(s for s in servers if s["name"] == "a4"))
        await self.reload(conf)

    async def change_weights(self, chance, conf):
        for server in conf["pools"]["app"]["servers"]:
            server["weight"] = chance.choice([50, 100, 200])
        await self.reload(conf)

    async def change_drain(self, chance, conf):
        """What the file drains and what operators drain are two things."""
        next(s for s in conf["pools"]["app"]["servers"] if s["name"] == "a3")["drain"] = True
        await self.reload(conf)
        await asyncio.sleep(chance.uniform(0, 0.3))

    async def change_listener(self, chance, conf):
        conf["listeners"]["pop"] = self.scene.listener("pop", "app")
        await self.reload(conf)
        await self.pop(True)
        conf = copy.deepcopy(conf)
        del conf["listeners"]["pop"]
        await self.reload(conf)
        await self.pop(False)

    async def change_timeouts(self, chance, conf):
        for listener in ("web", "tls"):
            conf["listeners"][listener].setdefault("timeouts", {})["idle"] = f"{chance.randint(20, 60)}s"
        conf["pools"]["app"]["health"]["http"] = f"/healthz?{chance.randint(1, 9)}" if chance.random() < 0.5 else "/healthz"
        await self.reload(conf)

    async def change_address(self, chance, conf):
        """Another address under a name: what operators said of it stays, and its health begins anew."""
        servers = conf["pools"]["app"]["servers"]
        at = next(i for i, s in enumerate(servers) if s["name"] == "a2")
        servers[at] = self.scene.server("a2", "a2-moved")
        await self.reload(conf)

    async def change_certificate(self, chance, conf):
        """Renewed in its place: handshakes from now on show the new one."""
        renewed = Certificate(self.scene.stage.dir, "renewed", ["app.example"])
        async with self.files:
            for fresh, old in ((renewed.path, self.scene.certificate.path), (renewed.key, self.scene.certificate.key)):
                os.replace(fresh, old)
        await self.reload(conf)
        connection = await TlsConnection(self.scene.where("tls")).open()
        shown = hashlib.sha256(connection.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)).hexdigest()
        connection.close()
        if shown != renewed.fingerprint:
            raise Broken("a reload has not put the renewed certificate in force")

    async def change_address_of_listener(self, chance, conf):
        """From this address to all of the machine's and back: the port is our own (docs/configuration.md, `address`)."""
        conf["listeners"]["lone"]["address"] = f"0.0.0.0:{self.scene.ports['lone']}"
        await self.reload(conf)
        await self.lone(3, must_be_good=True)

    async def pop(self, there):
        for _ in range(100):
            try:
                connection = await Connection(self.scene.where("pop")).open()
                reply = await connection.exchange("GET", "/bytes/10/1")
                connection.close()
                if there and reply.status == 200:
                    return
            except Bad as e:
                if not there and e.kind == "refused":
                    return
            await asyncio.sleep(0.02)
        raise Broken(f"the listener is {'not ' if there else 'still '}there")

    async def hangups(self, chance):
        """SIGHUP again and again: those that queue up become one. While a process takes over they may go to the old one."""
        pid = (await self.balancer.status())["process"]["pid"]
        for _ in range(chance.randint(2, 12)):
            self.balancer.signal(pid, signal.SIGHUP)
            await asyncio.sleep(chance.uniform(0, 0.02))

    # Reloads that must be refused.

    def bad_text(self, how):
        conf = copy.deepcopy(self.balancer.conf)
        if how == "syntax":
            return yaml(conf) + "\n  - [\n"
        if how == "unknown":
            return yaml({**conf, "helth": {}}) + "\n"
        if how == "nul":
            return yaml(conf) + "\n\0listeners: {}\n"
        if how == "empty":
            return ""
        if how == "dangling":
            conf["listeners"]["web"]["pool"] = "nowhere"
        elif how == "certificate":
            conf["listeners"]["tls"]["tls"]["certificates"][0]["cert"] = "/nowhere/web.pem"
        elif how == "taken":
            conf["listeners"]["pop"] = self.scene.listener("taken", "app")
        elif how == "log":
            conf["access_log"]["path"] = "/nowhere/access.log"
        return yaml(conf) + "\n"

    async def bad_reload(self, chance, how):
        taken = socket.socket()
        try:
            if how == "taken":
                taken.bind(self.scene.where("taken"))
                taken.listen()
            self.balancer.write(self.bad_text(how))
            await self.refused("reload")
        finally:
            taken.close()
            self.balancer.write()

    async def bad_upgrade(self, chance, how):
        """The next process cannot start: this one goes on."""
        before = self.balancer.pids()
        self.balancer.write(self.bad_text(how))
        try:
            await self.refused("upgrade", patience=80)
            await self.scene.one_process()
        finally:
            self.balancer.write()
        if self.balancer.pids() != before:
            raise Broken(f"{before} before an upgrade that failed, {self.balancer.pids()} after it")

    # Guarded reloads.

    async def lone(self, count, must_be_good=False, patience=10):
        """So many requests to the pool that is tried on. While it is broken each may fail, but has to end; a client with less
        patience than ten seconds leaves."""

        async def one():
            try:
                reader, writer = await asyncio.wait_for(asyncio.open_connection(*self.scene.where("lone")), 10)
                writer.write(LONE)
                try:
                    return await asyncio.wait_for(reader.read(-1), patience)
                finally:
                    writer.close()
            except asyncio.TimeoutError:
                if patience < 10:
                    return b""
                raise Broken("a request to a broken pool has no end") from None
            except OSError:
                return b""

        answers = []
        for _ in range(0, count, 4):
            answers += await asyncio.gather(*(one() for _ in range(4)))
        bad = [a[:60] for a in answers if not a.startswith(b"HTTP/1.1 200 ")]
        if must_be_good and bad:
            raise Broken(f"{len(bad)} of {len(answers)} requests to pool lone fail: {bad[:3]}")
        return len(bad)

    async def guarded(self, span):
        """`reload --guard`; once more if all that was in its way is an upgrade's window (docs/operations.md)."""
        said = await self.balancer.command("reload", "--guard", span, patience=40)
        if said.code == 1 and "an upgrade is under way" in said.err and self.upgrading:
            while self.upgrading:
                await asyncio.sleep(0.05)
            said = await self.balancer.command("reload", "--guard", span, patience=40)
        return said

    async def guard(self, chance, how):
        """A guarded reload: of a file that breaks a pool, in one of several ways, it must be taken back, and of another kept."""
        await self.lone(60, must_be_good=True)
        before, generation = copy.deepcopy(self.balancer.conf), (await self.balancer.status())["process"]["generation"]
        conf = copy.deepcopy(before)
        servers = conf["pools"]["lone"]["servers"]
        if how == "dead":
            conf["pools"]["lone"]["health"]["initial"] = "up"
            servers[:] = [self.scene.server(s, "dead") for s in ("l1", "l2")]
        elif how == "cut":
            servers[:] = [self.scene.server(s, "cuts") for s in ("l1", "l2")]
        elif how == "silent":
            servers[:] = [self.scene.server(s, "silent") for s in ("l1", "l2")]
        elif how == "drained":
            for server in servers:
                server["drain"] = True
        elif how == "probe":
            conf["pools"]["lone"]["health"]["port"] = self.scene.ports["dead"]
        else:
            servers[0]["weight"] = 50
        self.scene.about_to_reload(conf)
        self.balancer.write(yaml(conf) + "\n")
        watching = asyncio.create_task(self.guarded("2s" if how in ("kept", "replaced") else "5s"))
        try:
            if how == "replaced":
                await asyncio.sleep(0.5)
                self.balancer.conf = conf
                self.balancer.conf["pools"]["lone"]["servers"][1]["weight"] = 50
                self.balancer.write()
                await self.must("reload")
                self.scene.reloaded()
            else:
                while not watching.done():
                    await self.lone(8, patience=0.5 if how == "silent" else 10)
                    await asyncio.sleep(0.02)
            said = await watching
        finally:
            watching.cancel()
        now = (await self.balancer.status())["process"]["generation"]
        if how == "kept":
            self.balancer.conf = conf
            self.scene.reloaded()
            if said.code != 0 or "kept" not in said.out:
                raise Broken(f"a guarded reload that harms nobody: {said}")
        elif how == "replaced":
            if said.code != 1 or "another reload" not in said.err:
                raise Broken(f"a guarded reload that another one came after: {said}")
        else:
            # The file is still the one that was taken back.
            self.balancer.write()
            if said.code != 1 or "rolled back" not in said.err:
                await self.must("reload")
                raise Broken(f"a guarded reload that breaks a pool ({how}): {said}")
            if now <= generation:
                raise Broken(f"generation {now} after a rollback, {generation} before the reload")
            for server in ("l1", "l2"):
                await self.health(server, "after a rollback")
            await self.lone(12, must_be_good=True)
