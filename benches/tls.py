#!/usr/bin/env python3
"""What many certificates and many idle TLS connections cost.

    benches/tls.py [BINARY]        default: target/release/evenkeel; needs openssl

Prints, with 1 and with 1,000 certificates: how long a reload takes that reads them all, and how long a full handshake
takes for a name among them. Then the memory of an idle connection, in plain text and with TLS, each after one request.
"""

import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

BINARY = sys.argv[1] if len(sys.argv) > 1 else "target/release/evenkeel"
CERTIFICATES = 1000
CONNECTIONS = 2000


def make(directory, count):
    for n in range(count):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
             "-subj", f"/CN=n{n}.example", "-addext", f"subjectAltName=DNS:n{n}.example",
             "-keyout", f"{directory}/{n}.key", "-out", f"{directory}/{n}.pem"], check=True, capture_output=True)


def server():
    """Answers every request with two bytes."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)

    def answer(s):
        with s:
            while s.recv(65536):
                s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def accept():
        while True:
            threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listening.getsockname()[1]


class Balancer:
    def __init__(self, directory, certificates, app):
        self.log = f"{directory}/log"
        pairs = ", ".join(f"{{ cert: {directory}/{n}.pem, key: {directory}/{n}.key }}" for n in range(certificates))
        more = "limits: { connections: null, connections_per_client: null }, timeouts: { idle: 1h, request_header: 1h }"
        with open(f"{directory}/evenkeel.yaml", "w") as file:
            file.write(
                "process: { threads: 1 }\nadmin: { address: null }\naccess_log: off\nlisteners:\n"
                f"  plain: {{ address: 127.0.0.1:0, pool: app, {more} }}\n"
                f"  tls: {{ address: 127.0.0.1:0, pool: app, {more}, tls: {{ certificates: [{pairs}] }} }}\n"
                f"pools: {{ app: {{ servers: [127.0.0.1:{app}] }} }}\n")
        self.process = subprocess.Popen([BINARY, "run", "-c", f"{directory}/evenkeel.yaml"],
                                        stdout=subprocess.DEVNULL, stderr=open(self.log, "w"))
        self.wait("ready version=")

    def wait(self, part, count=1):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            lines = [re.sub(r"\x1b\[\d*m", "", line) for line in open(self.log) if part in re.sub(r"\x1b\[\d*m", "", line)]
            if len(lines) >= count:
                return lines[-1]
            time.sleep(0.01)
        raise SystemExit(f"no {part!r} in {open(self.log).read()}")

    def address(self, listener):
        line = self.wait(f"listening listener={listener} ")
        return "127.0.0.1", int(re.search(r"address=\S+:(\d+)", line)[1])

    def reload(self, count):
        self.process.send_signal(signal.SIGHUP)
        return float(re.search(r"took_ms=([\d.]+)", self.wait("reloaded", count))[1])

    def memory(self):
        for line in open(f"/proc/{self.process.pid}/smaps_rollup"):
            if line.startswith("Private_Dirty:"):
                return int(line.split()[1])

    def stop(self):
        self.process.terminate()
        self.process.wait()


def context():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def handshakes(address, names, count=1500):
    fresh, took = context(), []
    for _ in range(count):
        s = socket.create_connection(address)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start = time.perf_counter()
        with fresh.wrap_socket(s, server_hostname=f"n{random.randrange(names)}.example") as tls:
            took.append(time.perf_counter() - start)
            tls.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            tls.recv(4096)
    return sorted(took)[count // 2] * 1e6


def idle(balancer, address, over):
    """KiB of each of so many connections that had one request; the first few hundred are not counted."""
    held, memory = [], []
    for n in range(CONNECTIONS):
        if n in (400, CONNECTIONS - 1):
            time.sleep(0.5)
            memory.append(balancer.memory())
        s = over(socket.create_connection(address))
        s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        s.recv(4096)
        held.append(s)
    return (memory[1] - memory[0]) / (CONNECTIONS - 1 - 400)


def main():
    app = server()
    with tempfile.TemporaryDirectory() as directory:
        make(directory, CERTIFICATES)
        for count in (1, CERTIFICATES):
            balancer = Balancer(directory, count, app)
            reloads = sorted(balancer.reload(n) for n in range(1, 8))
            middle = handshakes(balancer.address("tls"), count)
            print(f"{count} certificates: reload {reloads[3]:.1f} ms, full handshake {middle:.0f} µs (medians)")
            balancer.stop()
        for name, over in (("plain", lambda s: s), ("tls", context().wrap_socket)):
            balancer = Balancer(directory, 1, app)
            print(f"idle connection, {name}: {idle(balancer, balancer.address(name), over):.2f} KiB")
            balancer.stop()


if __name__ == "__main__":
    os.environ["NO_COLOR"] = "1"
    main()
