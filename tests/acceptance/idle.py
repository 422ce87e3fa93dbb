#!/usr/bin/env python3
"""Thousands of connections that hardly do anything: the server for them, and the client that holds them.

    idle.py NAME PORT      a server that sends back the little it gets
"""

import resource
import select
import socket
import sys
import time


class Crowd:
    """Connections held open from many local addresses; each has said one byte and heard it back."""

    def __init__(self, where):
        self.where = where
        self.held = []

    def grow(self, count):
        """Opens so many more, 128 at a time. Returns how many did not answer."""
        silent = 0
        for start in range(0, count, 128):
            batch = []
            for i in range(start, min(start + 128, count)):
                s = socket.socket()
                # 50 local addresses, so that no pair of addresses runs out of ports.
                s.bind((f"127.0.1.{i % 50 + 1}", 0))
                s.settimeout(10)
                s.connect(self.where)
                batch.append(s)
            silent += len(batch) - self.greet(batch)
            self.held += batch
        return silent

    @staticmethod
    def greet(sockets):
        """One byte out and back on each; how many answered it."""
        answered = 0
        for s in sockets:
            try:
                s.sendall(b"?")
            except OSError:
                pass
        for s in sockets:
            try:
                answered += s.recv(1) == b"?"
            except OSError:
                pass
        return answered

    def talk(self):
        """How many of all still answer, asked 256 at a time."""
        return sum(self.greet(self.held[i:i + 256]) for i in range(0, len(self.held), 256))

    def drop_closed(self, expected, deadline_s):
        """Waits until at least `expected` were closed by the other side; returns how many were, and forgets them."""
        poll = select.epoll()
        by_number = {s.fileno(): s for s in self.held}
        for number in by_number:
            poll.register(number, select.EPOLLIN | select.EPOLLRDHUP)
        end, closed = time.monotonic() + deadline_s, 0
        while closed < expected and time.monotonic() < end:
            for number, _ in poll.poll(0.2, maxevents=len(by_number) + 1):
                poll.unregister(number)
                by_number.pop(number).close()
                closed += 1
        poll.close()
        self.held = list(by_number.values())
        return closed

    def close(self):
        for s in self.held:
            s.close()
        self.held = []


def serve(port):
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    listener.setblocking(False)
    poll = select.epoll()
    poll.register(listener.fileno(), select.EPOLLIN)
    open_ones = {}
    while True:
        for number, _ in poll.poll():
            if number == listener.fileno():
                try:
                    while True:
                        s, _ = listener.accept()
                        s.setblocking(False)
                        open_ones[s.fileno()] = s
                        poll.register(s.fileno(), select.EPOLLIN)
                except BlockingIOError:
                    continue
            s = open_ones[number]
            try:
                data = s.recv(4096)
                if data:
                    s.sendall(data)
                    continue
            except BlockingIOError:
                continue
            except OSError:
                pass
            poll.unregister(number)
            del open_ones[number]
            s.close()


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    serve(int(sys.argv[2]))
