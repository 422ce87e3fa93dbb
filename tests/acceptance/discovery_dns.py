"""The DNS server of the discovery run: dnsmasq, and a stand-in on the same port for the answers that dnsmasq cannot give."""

import asyncio
import os
import random
import signal
import socket
import struct
import time
from pathlib import Path

from dns_client import A, query
from stage import find_program

SERVFAIL, TRUNCATED = "servfail", "truncated"


class DnsStandIn(asyncio.DatagramProtocol):
    """Fails, or answers with a part of the addresses and the word that there are more; TCP is refused."""

    def __init__(self, mode, address):
        self.mode, self.address = mode, address
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, _error):
        self.closed.set_result(None)

    def datagram_received(self, data, client):
        if len(data) < 17:
            return
        at = 12
        while data[at]:
            at += data[at] + 1
        asked = data[12:at + 5]
        kind = struct.unpack_from(">H", data, at + 1)[0]
        record = b""
        # QR, RD, RA; TC; the code in the last four bits.
        flags = 0x8180 | (2 if self.mode == SERVFAIL else 0x0200)
        if self.mode == TRUNCATED and kind == A:
            record = b"\xc0\x0c" + struct.pack(">HHIH", A, 1, 1, 4) + socket.inet_aton(self.address)
        self.transport.sendto(data[:2] + struct.pack(">HHHHH", flags, 1, 1 if record else 0, 0, 0) + asked + record, client)


def lasting_port():
    """A port that stays free while nobody listens there: the kernel gives those of its own range to whoever asks anybody."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(first // 2, first)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            try:
                udp.bind(("127.0.0.1", port))
                tcp.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


class Dns:
    """Addresses and services, as they are at the moment. One second is how long everything may be believed."""

    def __init__(self, stage):
        self.stage, self.port = stage, lasting_port()
        self.names, self.services = {}, []
        self.hosts = stage.dir / "hosts"
        self.process = self.stand_in = None

    def write(self):
        fresh = self.hosts.with_suffix(".new")
        fresh.write_text("".join(f"{address} {name}\n" for name, addresses in self.names.items() for address in addresses))
        os.replace(fresh, self.hosts)

    def lead(self, name, addresses):
        """From now on; no addresses make the name an unknown one."""
        self.names[name] = list(addresses)
        self.write()
        if self.process:
            self.process.signal(signal.SIGHUP)

    async def start(self):
        """dnsmasq, in the place of whatever answers now."""
        await self.stop()
        self.write()
        services = [f"--srv-host={name},{target},{port},{priority},{weight}"
                    for name, target, port, priority, weight in self.services]
        self.process = self.stage.start("dnsmasq", [
            find_program("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file=",
            "--log-facility=-", f"--port={self.port}", "--listen-address=127.0.0.1", "--bind-interfaces", "--local=/test/",
            "--user=", "--group=", "--local-ttl=1", f"--addn-hosts={self.hosts}", *services])
        end = time.monotonic() + 30
        while await self.code("nobody.test") != 3:
            if time.monotonic() > end:
                raise TimeoutError(f"dnsmasq does not answer:\n{self.process.said()[-2000:]}")
            await asyncio.sleep(0.02)

    async def serve(self, services):
        """Other services: (name, target, port, priority, weight) each. dnsmasq reads them only as it starts."""
        self.services = services
        await self.start()

    async def stop(self):
        if self.process:
            self.stage.forget(self.process)
        if self.stand_in:
            self.stand_in.transport.close()
            # Only then can somebody else have its port.
            await self.stand_in.closed
        self.process = self.stand_in = None

    async def pretend(self, mode, address):
        """The stand-in, in the place of dnsmasq."""
        await self.stop()
        loop = asyncio.get_running_loop()
        end = time.monotonic() + 10
        while not self.stand_in:
            try:
                _, self.stand_in = await loop.create_datagram_endpoint(
                    lambda: DnsStandIn(mode, address), local_addr=("127.0.0.1", self.port))
            except OSError:
                # dnsmasq has a process for each client that asks by TCP, which ends a little after it.
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(0.02)

    async def code(self, name):
        """What a client hears: the response's code, "truncated", or None for silence."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(("127.0.0.1", self.port))
            try:
                client.send(query(1, name, A))
                flags = struct.unpack_from(">H", await asyncio.wait_for(loop.sock_recv(client, 4096), 0.3), 2)[0]
            except (OSError, asyncio.TimeoutError):
                return None
        return TRUNCATED if flags & 0x0200 else flags & 0xF
