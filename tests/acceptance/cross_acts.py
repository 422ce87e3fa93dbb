"""What is done in a round of the cross trials, and what must come of it; what an act has brought about it writes to the model."""

import asyncio
import copy
import json
import os
import re
import signal
import time

from cross_hung import Hung
from cross_model import Broken
from cross_reloads import Reloads
from scene import yaml


class Acts(Reloads, Hung):
    def __init__(self, scene):
        self.scene, self.model, self.balancer = scene, scene.model, scene.balancer
        self.upgrading = 0
        # Held while what a process reads at its start is put in place piece by piece.
        self.files = asyncio.Lock()

    async def must(self, *command, patience=30):
        said = await self.balancer.command(*command, patience=patience)
        if said.code != 0:
            raise Broken(str(said))
        return said

    async def refused(self, *command, patience=30, within=30):
        said = await self.balancer.command(*command, patience=patience)
        if said.code != 1 or not said.err.strip() or said.seconds > within:
            raise Broken(f"not refused with a reason within {within} s: {said}")
        return said

    # Operators' words.

    async def words(self, chance, sequence):
        for name, word in sequence:
            if word == "empty":
                await self.emptied(name)
            else:
                await self.word(name, word, chance.random() < 0.5)
            await asyncio.sleep(chance.uniform(0, 0.1))

    async def emptied(self, name):
        """`drain --wait` ends when nothing is in flight on the server, whichever process has it."""
        expected, server = self.model.servers[name], self.scene.servers[name]
        if expected.word != "drain":
            await self.word(name, "drain", True)
        if expected.word != "drain":
            return
        said = await self.balancer.command("drain", f"{expected.pool}/{name}", "--force", "--wait", "--timeout", "20s")
        if said.code == 1 and said.err.strip() and self.upgrading:
            return
        if said.code != 0:
            raise Broken(str(said))
        # The server may be a moment behind with what was its last byte.
        end = time.monotonic() + 0.3
        while server.active and time.monotonic() < end:
            await asyncio.sleep(0.01)
        if server.active:
            raise Broken(f"{said}, and {name} still has {server.active} requests")

    async def word(self, name, word, force):
        """One word about one server. It may be refused with a reason while a process takes over, and then changes nothing."""
        expected = self.model.servers[name]
        where = f"{expected.pool}/{name}"
        command = ["weight", where, str(word)] if isinstance(word, int) else [word, where]
        was = expected.word
        if word == "ready" and was:
            self.model.open(name, f"in {was}")
        took_over = self.upgrading
        said = await self.balancer.command(*command, *(["--force"] if force and word in ("drain", "maint") else []))
        if said.code == 1 and "--force" in said.err and not force:
            return await self.word(name, word, True)
        if said.code != 0:
            if word == "ready" and was:
                self.model.close(name, f"in {was}")
            if said.code == 1 and said.err.strip() and (took_over or self.upgrading):
                return
            raise Broken(str(said))
        if isinstance(word, int):
            expected.word_weight = word
        else:
            expected.word = None if word == "ready" else word
            if word != "ready":
                if was and was != word:
                    self.model.open(name, f"in {was}")
                self.model.close(name, f"in {word}")

    # Probes.

    async def probes(self, chance, name, manner):
        """A server's probes fail for a while, or hang, or are answered in a way that must do."""
        server, expected = self.scene.servers[name], self.model.servers[name]
        expected.healthy = manner in ("slow", "interim")
        server.manner.turn(manner)
        if expected.healthy:
            await self.probed(server.manner, 3)
            await self.health(name, f"{manner} probes")
        else:
            await self.health(name, f"probes that {manner}")
            if self.upgrading:
                # What the next process was told may be older than that; it finds out for itself.
                while self.upgrading:
                    await asyncio.sleep(0.02)
                await self.health(name, f"probes that {manner}, after an upgrade")
            self.model.close(name, "down")
            await asyncio.sleep(chance.uniform(0, 0.4))
            self.model.open(name, "down")
        expected.healthy = True
        server.manner.turn("pass")
        await self.health(name, "probes that pass again")

    async def health(self, name, what):
        must = "up" if self.model.servers[name].healthy else "down"

        def wrong(status):
            found = [s["health"] for p in status["pools"] for s in p["servers"] if s["name"] == name and s["state"] != "leaving"]
            return "" if found == [must] else f"{name} is {found}, not {must}"

        await self.scene.until(wrong, what)

    async def probed(self, manner, times, deadline_s=8):
        """Waits for so many probes more."""
        began, before = time.monotonic(), manner.count
        while manner.count < before + times:
            if time.monotonic() - began > deadline_s:
                raise Broken(f"{manner.count - before} probes in {deadline_s} s, where one each 0.15 s is due")
            await asyncio.sleep(0.02)

    # Signals and upgrades.

    async def reopen(self, chance):
        log, rotated = self.balancer.access_log, self.balancer.rotated_log
        os.replace(log, rotated)
        for pid in self.balancer.pids():
            self.balancer.signal(pid, signal.SIGUSR1)
        end = time.monotonic() + 5
        while not log.exists():
            if time.monotonic() > end:
                raise Broken("no new access log 5 s after SIGUSR1")
            await asyncio.sleep(0.02)

    async def upgrade(self, chance, times=1):
        for _ in range(times):
            self.upgrading += 1
            self.scene.traffic.parts(40)
            try:
                async with self.files:
                    said = await self.must("upgrade", patience=90)
                now = (await self.balancer.status())["process"]["pid"]
            finally:
                # Words that are answered now were said in the window.
                asyncio.get_running_loop().call_later(0.2, self.upgraded)
                self.scene.traffic.parting = 0
                self.scene.traffic.parts(10)
            told = re.search(r"process (\d+)", said.out)
            if not told or int(told[1]) != now:
                raise Broken(f"{said}, and process {now} answers")

    def upgraded(self):
        self.upgrading -= 1

    async def killed_upgrade(self, chance):
        """The next process is killed while it still waits for a probe that hangs: this one goes on as if nothing had happened."""
        before, manner = self.balancer.pids(), self.scene.servers["l2"].manner
        manner.turn("hang")
        self.upgrading += 1
        upgrade = asyncio.create_task(self.balancer.command("upgrade", patience=90))
        try:
            end = time.monotonic() + 10
            while len(self.balancer.pids()) == len(before) and time.monotonic() < end and not upgrade.done():
                await asyncio.sleep(0.005)
            await asyncio.sleep(chance.uniform(0, 0.1))
            for pid in set(self.balancer.pids()) - set(before):
                self.balancer.signal(pid, signal.SIGKILL)
            said = await upgrade
        finally:
            asyncio.get_running_loop().call_later(0.2, self.upgraded)
            manner.turn("pass")
        if said.code != 1 or not said.err.strip():
            raise Broken(f"the next process was killed: {said}")
        await self.scene.one_process()
        if self.balancer.pids() != before:
            raise Broken(f"{before} before an upgrade whose process was killed, {self.balancer.pids()} after it")
        await self.health("l2", "probes that pass again")

    # Looking on.

    async def looks(self, chance):
        """What changes nothing answers within seconds, whatever else goes on."""
        looks = {"status": [0], "explain GET http://app.example/ --listener web": [0], "probe app/a1": [0], "events --limit 5": [0],
                 "plan": [0, 1, 3], "status lone": [0], "probe tcp/t1": [0]}
        for look in chance.sample(list(looks), 3):
            took_over = self.upgrading
            said = await self.balancer.command(*look.split(), patience=10)
            if said.code not in looks[look] and not (said.code == 1 and said.err.strip() and (took_over or self.upgrading)):
                raise Broken(str(said))
            await asyncio.sleep(chance.uniform(0, 0.2))

    # The end.

    async def stop(self):
        """A reload that hangs, a log that nobody reads, and SIGTERM: the process ends all the same. Returns after how long."""
        pipe = self.scene.stage.dir / "hangs"
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)
        conf = copy.deepcopy(self.balancer.conf)
        conf["access_log"]["path"] = str(pipe)
        self.balancer.write(yaml(conf) + "\n")
        self.balancer.log.reads.clear()
        reloading = asyncio.create_task(self.balancer.command("reload", patience=10))
        await asyncio.sleep(0.3)
        for pid in self.balancer.pids():
            os.kill(pid, signal.SIGTERM)
        began = time.monotonic()
        try:
            while self.balancer.pids():
                if time.monotonic() - began > 10:
                    raise Broken("10 s after SIGTERM the process still runs; it was in a reload that hangs, and nobody read its log")
                await asyncio.sleep(0.02)
        finally:
            self.balancer.log.reads.set()
            self.release(pipe)
            await reloading
        return time.monotonic() - began

    async def start_anew(self):
        """A process of its own, after the last one's end: operators' words, and where the ledger was, outlive that too."""
        self.balancer.kill()
        self.model.generation = 0
        await self.balancer.start()
        await self.scene.agrees()
        await self.scene.ledger()


def describe(what):
    """An act and its arguments in a line."""
    name, *rest = what
    return name + (" " + " ".join(json.dumps(r) if not isinstance(r, (str, int)) else str(r) for r in rest) if rest else "")
