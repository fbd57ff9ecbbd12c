"""Requests with something wrong with them, made deterministically from ones that have less."""

import random
from collections.abc import Sequence

HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"

WELL_FORMED = [
    b"GET /hi HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /fail-later HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET http://localhost/hi HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET http://localhost HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET ?x HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /%ff%00%2e%2e/ HTTP/1.1\r\n" + HOST + b"\r\n",
    b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    b"CONNECT localhost:1 HTTP/1.1\r\n" + HOST + b"\r\n",
    b"POST /echo HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 2\r\n\r\n{}",
    b"POST /echo HTTP/1.1\r\n" + HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
    b"2\r\n{}\r\n0\r\n\r\n",
    b"GET /hi HTTP/1.1\r\n" + HOST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
]
"""Requests to the tiny app of `serving.py`, each of a kind of its own."""

SPICE = [b"\r\n", b"\n", b"\r", b"\0", b"\xff", b" ", b":", b",", b"\t", b"0", b"Upgrade: h2c\r\n"]


def mutated(seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """One of the seeds with up to four things wrong with it. Equal chances make equal bytes."""
    data = chance.choice(seeds)
    for _ in range(chance.randint(0, 4)):
        at, to = sorted(chance.choices(range(len(data) + 1), k=2))
        match chance.randrange(5):
            case 0:
                data = data[:at] + chance.choice(SPICE) + data[at:]
            case 1:
                data = data[:at] + data[min(to, at + 8) :]
            case 2:
                data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
            case 3:
                data = data[:to] + data[at:]
            case _:
                data = data + chance.choice(seeds)
    return data
