"""PROXY protocol headers, made by hand from the specification's words, good ones and bad ones alike.

https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt
"""

import ipaddress
import struct

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
UNSPEC, TCP4, UDP4, TCP6, UNIX = 0x00, 0x11, 0x12, 0x21, 0x31
ALPN, AUTHORITY, CRC32C, NOOP, UNIQUE_ID, NETNS = 0x01, 0x02, 0x03, 0x04, 0x05, 0x30


def _crc32c_table():
    table = []
    for i in range(256):
        for _ in range(8):
            i = (i >> 1) ^ (0x82F63B78 if i & 1 else 0)
        table.append(i)
    return table


_TABLE = _crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def v1(source, port, destination="192.0.2.80", to=443):
    family = "TCP6" if ":" in source else "TCP4"
    if family == "TCP6" and ":" not in destination:
        destination = "2001:db8::80"
    return f"PROXY {family} {source} {destination} {port} {to}\r\n".encode()


def tlv(kind, value):
    return struct.pack(">BH", kind, len(value)) + value


def addresses(source, port, destination=None, to=443):
    """Family and address block."""
    address = ipaddress.ip_address(source)
    other = ipaddress.ip_address(destination or ("192.0.2.80" if address.version == 4 else "2001:db8::80"))
    return TCP4 if address.version == 4 else TCP6, address.packed + other.packed + struct.pack(">HH", port, to)


def v2(source=None, port=0, command=PROXY, tlvs=b"", checksum=None, family=None, block=None, length=None):
    """`checksum`: None for none, True for the right one, or four bytes to put there instead."""
    if block is None:
        made, block = addresses(source, port) if source else (UNSPEC, b"")
        family = made if family is None else family
    body = block + tlvs
    if checksum is not None:
        body += tlv(CRC32C, b"\0\0\0\0")
    head = SIGNATURE + bytes([command, family or 0]) + struct.pack(">H", len(body) if length is None else length)
    whole = head + body
    if checksum is True:
        whole = whole[:-4] + struct.pack(">I", crc32c(whole))
    elif checksum is not None:
        whole = whole[:-4] + checksum
    return whole


def parse(data):
    """(version, what it says: "LOCAL", "UNKNOWN" or "address:port") of a good header at the beginning of `data`."""
    if data.startswith(SIGNATURE) and len(data) >= 16:
        command, family, size = struct.unpack_from(">BBH", data, 12)
        block = data[16:16 + size]
        if command == LOCAL:
            return "v2", "LOCAL"
        if family in (TCP4, TCP6):
            width = 4 if family == TCP4 else 16
            (port,) = struct.unpack_from(">H", block, 2 * width)
            return "v2", f"{ipaddress.ip_address(block[:width])}:{port}"
        return "v2", "UNKNOWN"
    if data.startswith(b"PROXY ") and b"\r\n" in data:
        words = data.split(b"\r\n")[0].decode("latin-1").split(" ")
        return "v1", "UNKNOWN" if words[1] == "UNKNOWN" else f"{words[2]}:{words[4]}"
    return "none", data[:40].hex()
