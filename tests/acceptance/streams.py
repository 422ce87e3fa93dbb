#!/usr/bin/env python3
"""Streams whose every byte is accounted for: each end hashes what it sent and what it got, the run compares.

    streams.py serve NAME PORT
    streams.py load HOST:PORT NAME [--streams N] [--long N] [--bulk BYTES] [--seed N]

A client begins with one line of JSON: who it is, how the stream goes and how many bytes it wants. Then
    both     both ends send at the same time, and each closes its half when it has sent all
    answer   the server sends only once the client has closed its half
    first    the client sends only once the server has sent all and closed its half
    echo     the server sends back what it gets, and closes its half when the client has
    long     both ends drip until the load is told to finish (SIGTERM); then as `both`
Each end may send slowly (`write_rate`) or read slowly (`read_rate`, with a small receive buffer), so that the other
end's data pile up in whatever stands between. Both ends print one line of JSON for each stream when it is over.
"""

import argparse
import hashlib
import json
import os
import random
import resource
import signal
import socket
import sys
import threading
import time

PATIENCE_S = 60
CHUNK = 256 << 10
# Of a slow reader. Smaller ones make the kernel itself wait for its timers, whoever stands between.
SMALL_BUFFER = 64 << 10
_block = memoryview(os.urandom(4 << 20))
_printing = threading.Lock()
finish = threading.Event()


def tell(**facts):
    with _printing:
        print(json.dumps(facts), flush=True)


class Half:
    """One direction, at one of its ends: how many bytes, and their SHA-256."""

    def __init__(self):
        self.size = 0
        self.sha = hashlib.sha256()

    def add(self, data):
        self.size += len(data)
        self.sha.update(data)

    def facts(self):
        return [self.size, self.sha.hexdigest()]


class Pace:
    """Holds a mean rate of bytes per second; None is as fast as it goes."""

    def __init__(self, rate):
        self.rate, self.began, self.count = rate, time.monotonic(), 0

    def size(self, most):
        return min(most, max(self.rate // 20, 1)) if self.rate else most

    def wait(self, count):
        if self.rate:
            self.count += count
            ahead = self.began + self.count / self.rate - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)


def send(sock, half, size, chance, rate, so_long=None):
    """Sends `size` bytes, or drips until `so_long` is set, in pieces of any size; then closes this half."""
    pace = Pace(rate)
    # A large piece spares the harness's own CPU time, a small one tries the other side's.
    bulk = size is not None and size > 64 << 20
    most = CHUNK if bulk else chance.choice([1460, 16384, 65536, CHUNK] + ([100] if size is None or size < 100_000 else []))
    while (half.size < size) if so_long is None else not so_long.is_set():
        length = pace.size(most if bulk else chance.randint(1, most))
        if so_long is None:
            length = min(length, size - half.size)
        at = chance.randrange(len(_block) - length)
        piece = _block[at:at + length]
        sock.sendall(piece)
        half.add(piece)
        pace.wait(length)
    sock.shutdown(socket.SHUT_WR)


def receive(sock, half, rate, buffer=None, echo=None):
    """Reads to the end of the other side's half; `echo` gets each piece back out."""
    pace = Pace(rate)
    buffer = memoryview(buffer if buffer is not None else bytearray(CHUNK))
    while True:
        length = sock.recv_into(buffer, pace.size(len(buffer)))
        if not length:
            return
        half.add(buffer[:length])
        if echo is not None:
            sock.sendall(buffer[:length])
            echo.add(buffer[:length])
        pace.wait(length)


def both_ways(sock, sent, got, size, chance, write_rate, read_rate, so_long=None):
    faults = []

    def sending():
        try:
            send(sock, sent, size, chance, write_rate, so_long)
        except Exception as e:
            faults.append(f"sending: {e!r}")

    thread = threading.Thread(target=sending, daemon=True)
    thread.start()
    try:
        receive(sock, got, read_rate)
    except Exception as e:
        faults.append(f"receiving: {e!r}")
        if so_long:
            so_long.set()
    thread.join()
    return "; ".join(faults)


# --- The server -------------------------------------------------------------------------------------------


def read_line(sock):
    """The line, and what came after it."""
    data = b""
    while b"\n" not in data:
        block = sock.recv(4096)
        if not block:
            return None, b""
        data += block
    line, _, rest = data.partition(b"\n")
    return line, rest


def serve_one(sock, name):
    sock.settimeout(PATIENCE_S)
    sent, got, fault, asked = Half(), Half(), "", {}
    try:
        line, rest = read_line(sock)
        if line is None:
            return  # A probe.
        asked = json.loads(line)
        got.add(rest)
        mode, size = asked["mode"], asked["size"]
        chance = random.Random(asked["id"])
        if asked["read_rate"]:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        if mode == "both":
            fault = both_ways(sock, sent, got, size, chance, asked["write_rate"], asked["read_rate"])
        elif mode == "answer":
            receive(sock, got, asked["read_rate"])
            send(sock, sent, size, chance, asked["write_rate"])
        elif mode == "first":
            send(sock, sent, size, chance, asked["write_rate"])
            receive(sock, got, asked["read_rate"])
        elif mode == "echo":
            sock.sendall(rest)
            sent.add(rest)
            receive(sock, got, asked["read_rate"], echo=sent)
            sock.shutdown(socket.SHUT_WR)
        elif mode == "long":
            client_is_done = threading.Event()

            def dripping():
                try:
                    send(sock, sent, None, chance, asked["write_rate"], client_is_done)
                except OSError:
                    pass  # The client, who gets less than was sent, tells.

            drip = threading.Thread(target=dripping, daemon=True)
            drip.start()
            try:
                receive(sock, got, None)
            finally:
                client_is_done.set()
                drip.join()
    except Exception as e:
        fault = fault or repr(e)
    finally:
        sock.close()
    tell(server=name, id=asked.get("id"), sent=sent.facts(), got=got.facts(), fault=fault)


def serve(name, port):
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=serve_one, args=(sock, name), daemon=True).start()


# --- The load ---------------------------------------------------------------------------------------------


def one_stream(where, identity, chance, mode, up, down, client_rates=(None, None), server_rates=(None, None)):
    """One whole stream, judged as far as one end can. Rates: (write, read)."""
    began = time.monotonic()
    sent, got, fault = Half(), Half(), ""
    try:
        sock = socket.socket()
        if client_rates[1]:
            # Before connecting, so that the window that is offered is small from the start.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        sock.settimeout(PATIENCE_S)
        sock.connect(where)
        with sock:
            asked = {"id": identity, "mode": mode, "size": down, "write_rate": server_rates[0], "read_rate": server_rates[1]}
            sock.sendall(json.dumps(asked).encode() + b"\n")
            if mode in ("both", "echo"):
                fault = both_ways(sock, sent, got, up, chance, *client_rates)
            elif mode == "answer":
                send(sock, sent, up, chance, client_rates[0])
                receive(sock, got, client_rates[1])
            elif mode == "first":
                receive(sock, got, client_rates[1])
                send(sock, sent, up, chance, client_rates[0])
            elif mode == "long":
                fault = both_ways(sock, sent, got, None, chance, *client_rates, so_long=finish)
    except Exception as e:
        fault = repr(e)
    if not fault and mode == "echo" and sent.facts() != got.facts():
        fault = f"the echo differs: {sent.size} bytes out, {got.size} back"
    if not fault and mode != "echo" and down is not None and got.size != down:
        fault = f"{got.size} bytes of {down}"
    tell(id=identity, mode=mode, sent=sent.facts(), got=got.facts(), fault=fault, seconds=round(time.monotonic() - began, 3),
         slow=any(client_rates + server_rates))


def any_streams(where, name, chance):
    """Streams of all kinds and sizes, one after the other."""
    count = 0
    while not finish.is_set():
        count += 1
        mode = chance.choice(["both", "answer", "first", "echo"])
        up, down = (chance.choice([0, 1, 100, 5000, 70_000, chance.randint(1, 3 << 20)]) for _ in range(2))
        one_stream(where, f"{name}-{count}", chance, mode, up, down)
        time.sleep(chance.uniform(0.02, 0.15))


def slow_streams(where, name, chance):
    """One end reads or writes slowly for some seconds, and the other is as fast as it may."""
    count = 0
    while not finish.is_set():
        count += 1
        rate, slow = 600_000, chance.randrange(4)
        client, server = [None, None], [None, None]
        (client if slow < 2 else server)[slow % 2] = rate
        up, down = (rate * chance.randint(1, 4) for _ in range(2))
        one_stream(where, f"{name}-{count}", chance, chance.choice(["both", "answer", "first", "echo"]), up, down,
                   tuple(client), tuple(server))


def load(args):
    host, _, port = args.where.rpartition(":")
    where = (host, int(port))
    signal.signal(signal.SIGTERM, lambda *_: finish.set())
    threads = []

    def add(function, *arguments):
        threads.append(threading.Thread(target=function, args=arguments, daemon=True))

    for i in range(args.streams):
        kind = slow_streams if i % 3 == 2 else any_streams
        add(kind, where, f"{args.name}-{i}", random.Random(f"{args.seed}-{i}"))
    for i in range(args.long):
        add(one_stream, where, f"{args.name}-long{i}", random.Random(f"{args.seed}-l{i}"), "long", None, None,
            (20_000, None), (20_000, None))
    if args.bulk:
        add(one_stream, where, f"{args.name}-bulk", random.Random(args.seed), "both", args.bulk, args.bulk)
    for thread in threads:
        thread.start()
    while any(t.is_alive() for t in threads):
        time.sleep(0.05)
    tell(done=True)


def main():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Many threads that mostly wait: none should wait for another's five milliseconds.
    sys.setswitchinterval(0.0005)
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["load"])
    parser.add_argument("where")
    parser.add_argument("name")
    parser.add_argument("--streams", type=int, default=0)
    parser.add_argument("--long", type=int, default=0)
    parser.add_argument("--bulk", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    load(parser.parse_args())


if __name__ == "__main__":
    main()
