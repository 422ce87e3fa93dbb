"""What hangs in the cross trials: a disk, whoever should read the log, and clients of the admin endpoint."""

import asyncio
import copy
import os
import socket

from cross_model import Broken
from scene import yaml

# How long a reload that reads from a disk which hangs may take to be refused, and an answer to come meanwhile.
REFUSED_WITHIN_S = 15
ANSWERED_WITHIN_S = 3


class Hung:
    """The acts that must not hold up the process."""

    async def hung(self, chance, what):
        """Something that a reload reads or opens does not answer. The reload is refused in bounded time; meanwhile probes, the
        status and `/livez` (which is asked all the time) go on."""
        pipe = self.scene.stage.dir / "hangs"
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)
        conf = copy.deepcopy(self.balancer.conf)
        if what == "access_log":
            conf["access_log"]["path"] = str(pipe)
        elif what == "events":
            conf["events"]["path"] = str(pipe)
        elif what == "certificate":
            conf["listeners"]["tls"]["tls"]["certificates"][0]["cert"] = str(pipe)
        elif what == "client_ca":
            conf["listeners"]["tls"]["tls"]["client_ca"] = str(pipe)
        elif what == "server_ca":
            conf["pools"]["lone"]["tls"] = {"ca": str(pipe)}
        path = self.balancer.conf_path
        if what in ("config", "endless", "plan"):
            fresh = path.with_suffix(".new")
            if what == "endless":
                fresh.symlink_to("/dev/zero")
            else:
                os.mkfifo(fresh)
            os.replace(fresh, path)
        else:
            self.balancer.write(yaml(conf) + "\n")
        command = "plan" if what == "plan" else "reload"
        reloading = asyncio.create_task(self.balancer.command(command, patience=REFUSED_WITHIN_S))
        try:
            await self.goes_on()
            said = await reloading
        finally:
            self.balancer.write()
            self.release(path if what in ("config", "plan") else pipe)
        if said.code != 1 or not said.err.strip():
            raise Broken(f"{what} hangs, and `{command}` was not refused within {REFUSED_WITHIN_S} s: {said}")
        if what == "certificate":
            # It was the file that hung, and nothing else.
            await self.reload(copy.deepcopy(self.balancer.conf))

    def release(self, pipe):
        """Whoever waits for the other end of it has it now."""
        try:
            end = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        except OSError:
            return
        asyncio.get_running_loop().call_later(0.5, os.close, end)

    async def goes_on(self):
        """While a reload hangs: a status within seconds, and probes as ever."""
        await asyncio.sleep(0.3)
        probing = asyncio.create_task(self.probed(self.scene.servers["a1"].manner, 3))
        said = await self.balancer.command("status", "--json", patience=ANSWERED_WITHIN_S)
        try:
            await probing
        except Broken as e:
            raise Broken(f"while a reload hangs: {e}") from e
        if said.code != 0:
            raise Broken(f"while a reload hangs: {said}")

    async def full_log(self, chance):
        """Nobody reads what the process says, and it has much to say."""
        self.balancer.log.reads.clear()
        try:
            self.balancer.write("\n".join(f"unknown{n}: {'x' * 80}" for n in range(100)) + "\n")
            await self.refused("reload", patience=REFUSED_WITHIN_S)
            said = await self.balancer.command("status", "--json", patience=ANSWERED_WITHIN_S)
            if said.code != 0:
                raise Broken(f"while nobody reads its log: {said}")
        finally:
            self.balancer.log.reads.set()
            self.balancer.write()

    async def admin_crowd(self, chance):
        """More silent connections than the admin endpoints take, on both ways."""
        held = []
        try:
            for _ in range(300):
                held.append(socket.create_connection(("127.0.0.1", self.balancer.admin_port), timeout=5))
            for _ in range(chance.choice([0, 100])):
                held.append(socket.socket(socket.AF_UNIX))
                held[-1].settimeout(5)
                held[-1].connect(self.balancer.socket)
            await asyncio.sleep(0.5)
            said = await self.balancer.command("status", "--json", patience=ANSWERED_WITHIN_S)
            if said.code != 0:
                raise Broken(f"beside silent connections: {said}")
            await asyncio.sleep(chance.uniform(0.2, 1))
        except OSError as e:
            raise Broken(f"the admin endpoint takes no connections: {e!r}") from e
        finally:
            for each in held:
                each.close()
