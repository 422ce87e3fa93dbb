#!/usr/bin/env python3
"""Connections over TLS one after the other, each with one request, for so many seconds.

    shaker.py PORT SECONDS 1.2|1.3 full|resumed

Prints how many there were and how many of them resumed a session. (`openssl s_time` would do, but asks in HTTP/1.0.)
"""

import socket
import ssl
import sys
import time

REQUEST = b"GET /small HTTP/1.1\r\nHost: bench.example\r\nConnection: close\r\n\r\n"


def exchange(context, port, session):
    """The TLS socket after one request, closed."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=20)
    with context.wrap_socket(plain, server_hostname="bench.example", session=session, suppress_ragged_eofs=True) as s:
        s.sendall(REQUEST)
        got = b""
        while block := s.recv(16384):
            got += block
        if not got.startswith(b"HTTP/1.1 200"):
            raise ValueError(f"answer: {got[:80]!r}")
        return s.session_reused, s.session


def run(port, seconds, version, resume):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
    session = exchange(context, port, None)[1] if resume else None
    count = resumed = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        reused, session_now = exchange(context, port, session)
        # A ticket of TLS 1.3 is for one use; a real client takes the one it was given last.
        session = session_now if resume else None
        count, resumed = count + 1, resumed + bool(reused)
    print(count, resumed)


if __name__ == "__main__":
    run(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4] == "resumed")
