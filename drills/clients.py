"""Faults of clients: slow ones, hostile ones, ones that leave, and a thousand at once."""

import json
import random
import resource
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import trio

from drills.drill import Drill
from drills.outcome import Outcome
from drills.site import MODEL, SEND_SECONDS, Site
from tests.end_to_end.running import directive

# http/connection.py and http/body.py; with time to spare for a loaded machine.
HEADER_SECONDS: Final = 5.0
BODY_SECONDS: Final = 30.0
LATE: Final = 10.0
SLOW: Final = 20
READERS: Final = 2
CROWD: Final = 1000
MUTATIONS: Final = 500
SEED: Final = 20261123

HOSTILE: Final = (
    b"\x00\xff\xfe garbage \r\n\r\n",
    b"\r\n" * 5000,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nZZZ\r\n{}\r\n",
    b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200,
)


def connect(site: Site) -> socket.socket:
    where = urlsplit(site.daemon.base_url)
    return socket.create_connection((where.hostname or "", where.port or 0), timeout=60)


def head(site: Site, length: int) -> bytes:
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {urlsplit(site.daemon.base_url).netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def request(site: Site, model: str = MODEL, **reply: Any) -> bytes:
    message = {"role": "user", "content": directive(**reply)}
    body = json.dumps({"model": model, "stream": True, "messages": [message]}).encode()
    return head(site, len(body)) + body


def received(sock: socket.socket) -> bytes:
    """What comes until the other side closes, by a reset too."""
    pieces = []
    with suppress(ConnectionError, TimeoutError):
        while piece := sock.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def trickle(site: Site, first: bytes) -> tuple[float, bytes]:
    """Send a byte every half second until the other side ends it: after how long, with what."""
    with connect(site) as sock:
        began = time.monotonic()
        sock.sendall(first)
        sock.settimeout(0.5)
        answer = b""
        while time.monotonic() < began + BODY_SECONDS + 2 * LATE:
            try:
                piece = sock.recv(65536)
                answer += piece
                if not piece:
                    break
            except TimeoutError:
                with suppress(ConnectionError):
                    sock.sendall(b"x")
            except ConnectionError:
                break
        return time.monotonic() - began, answer


def slow(site: Site, outcome: Outcome) -> None:
    with ThreadPoolExecutor(2 * SLOW) as pool:
        headers = [pool.submit(trickle, site, b"GET / HTTP/1.1\r\nX: ") for _ in range(SLOW)]
        bodies = [pool.submit(trickle, site, head(site, 1000) + b"{") for _ in range(SLOW)]
        answer = site.ask(text="meanwhile")
        outcome.survives("a turn meanwhile", answer == "meanwhile", answer)
        site.go_on()
        outcome.survives("the conversation meanwhile", True)
        for each in headers:
            took, _ = each.result()
            outcome.loses("slow headers, closed", took < HEADER_SECONDS + LATE, took)
        for each in bodies:
            took, told = each.result()
            good = b" 408 " in told and took < BODY_SECONDS + LATE
            outcome.loses("slow bodies, with 408", good, (took, told[:40]))


def unread(site: Site, outcome: Outcome) -> None:
    readers = [connect(site) for _ in range(READERS)]
    for sock in readers:
        sock.sendall(request(site, words=500_000))
        sock.recv(100)
    began = time.monotonic()
    answer = site.ask(text="meanwhile")
    outcome.survives("a turn meanwhile", answer == "meanwhile", answer)
    site.wait_rest()
    took = time.monotonic() - began
    outcome.survives("their workers' slots", took < SEND_SECONDS + 2 * LATE, took)
    for sock in readers:
        with sock:
            whole = received(sock).rstrip().endswith(b"[DONE]")
            outcome.loses("streams that nobody reads, cut", not whole)


def hostile(site: Site, outcome: Outcome) -> None:
    with ThreadPoolExecutor(len(HOSTILE)) as pool:
        for said in pool.map(lambda payload: exchange(site, payload), HOSTILE):
            refused = not said or said.startswith((b"HTTP/1.1 4", b"HTTP/1.1 200", b"HTTP/1.1 5"))
            outcome.loses("hostile connections, refused or closed", refused, said[:60])
    generator = random.Random(SEED)
    valid = request(site, model="no-such-model", text="hi")
    for _ in range(MUTATIONS):
        with connect(site) as sock, suppress(ConnectionError):
            if generator.random() < 0.5:
                reset_on_close(sock)
            sock.sendall(mutated(valid, generator))
    outcome.loses(f"{MUTATIONS} mutated requests, some reset", True)


def exchange(site: Site, payload: bytes) -> bytes:
    with connect(site) as sock:
        with suppress(ConnectionError):
            sock.sendall(payload)
            sock.shutdown(socket.SHUT_WR)
        return received(sock)


def mutated(valid: bytes, generator: random.Random) -> bytes:
    data = bytearray(valid)
    for _ in range(generator.randint(1, 8)):
        at = generator.randrange(len(data))
        match generator.randrange(4):
            case 0:
                data[at] = generator.randrange(256)
            case 1:
                del data[at : at + generator.randint(1, 20)]
            case 2:
                data[at:at] = generator.randbytes(generator.randint(1, 20))
            case _:
                data[at:at] = data[at : at + generator.randint(1, 50)]
        if not data:
            return b"\r\n"
    return bytes(data[: generator.randint(1, len(data))] if generator.random() < 0.3 else data)


def reset_on_close(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def leave(site: Site, outcome: Outcome) -> None:
    """Gone in the middle of the body, and in the middle of the reply."""
    whole = request(site, words=2000, pace=0.05)
    for cut in (20, len(whole) // 2, len(whole) - 1):
        with connect(site) as sock:
            reset_on_close(sock)
            sock.sendall(whole[:cut])
        outcome.loses("half requests", True)
    for _ in range(2):
        with connect(site) as sock:
            reset_on_close(sock)
            sock.sendall(whole)
            sock.recv(100)
        outcome.loses("turns whose client has gone", True)
    site.wait_rest()
    outcome.survives("the slots, free again", True)


def crowd(site: Site, outcome: Outcome) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        told = trio.run(ask_all, site)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for answer in told:
        if answer == "refused":
            outcome.loses("requests beyond the queue: 503 with Retry-After", True)
        else:
            outcome.survives("requests, answered with their own answer", answer == "own", answer)


async def ask_all(site: Site) -> list[str]:
    told: list[str] = []
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=site.daemon.base_url, limits=limits) as client:

        async def ask(number: int) -> None:
            text = f"answer {number}"
            message = {"role": "user", "content": directive(text=text)}
            body = {"model": MODEL, "messages": [message]}
            try:
                reply = await client.post("/v1/chat/completions", json=body, timeout=240)
            except httpx.HTTPError as error:
                told.append(type(error).__name__)
                return
            if reply.status_code == 503 and reply.headers.get("retry-after"):
                told.append("refused")
            elif reply.status_code == 200:
                content = reply.json()["choices"][0]["message"]["content"]
                told.append("own" if content == text else content)
            else:
                told.append(f"{reply.status_code} {reply.text[:200]}")

        async with trio.open_nursery() as nursery:
            for number in range(CROWD):
                nursery.start_soon(ask, number)
    return told


DRILLS: Final = (
    Drill("slow-clients", f"{SLOW} slow headers and {SLOW} slow bodies", slow, 1),
    Drill("unread-streams", f"{READERS} streams that their clients do not read", unread, 2),
    Drill("hostile-clients", "garbage, h2, TLS, TE and CL, mutations, resets", hostile),
    Drill("clients-gone", "clients that leave in mid-request and mid-stream", leave),
    Drill("crowd", f"{CROWD} clients at once", crowd, 1, {"MAXD_POOL_QUEUE_LENGTH": "100"}),
)
