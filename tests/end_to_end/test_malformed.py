"""The daemon under requests that are wrong in every way: the same process at the end, answering."""

import json
import os
import random
import socket
import struct
from pathlib import Path

import httpx
import trio

from tests.end_to_end.activation import fake_cli_variables
from tests.end_to_end.running import DaemonProcess, LoopbackProcess
from tests.http.malformed import MALFORMED
from tests.http.mutations import HOST, JSON, mutated

# `MAXD_MUTATIONS=10000` for all of it (25 s on a busy machine of two cores).
MUTATIONS = int(os.environ.get("MAXD_MUTATIONS", "800"))
AT_ONCE = 20
# A request that is answered by a worker takes that long at most; the rest is answered at once.
PATIENCE_SECONDS = 60

CHAT = {"model": "sonnet:chat", "messages": [{"role": "user", "content": "hello"}]}


def post(path: str, body: object, more: bytes = b"") -> bytes:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\n".encode() + HOST + JSON + more
    return head + b"Content-Length: %d\r\n\r\n" % len(data) + data


def chunked(path: str, body: object) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\n".encode() + HOST + JSON
    size = b"%x\r\n" % len(data)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + size + data + b"\r\n0\r\n\r\n"


def get(path: str, more: bytes = b"") -> bytes:
    return f"GET {path} HTTP/1.1\r\n".encode() + HOST + more + b"\r\n"


H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAA\r\n"
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: eA==\r\n"
)
SEEDS = [
    *(sent[:2000].replace(b"/hi", b"/health") for sent, _ in MALFORMED.values()),
    get("/health"),
    get("/v1/models"),
    get("/v1/models/sonnet"),
    get("/v1/conversations"),
    get("/status"),
    get("/metrics"),
    get("/"),
    get("/health", H2C),
    get("/v1/models", WEBSOCKET),
    get("/health") * 5,
    post("/v1/chat/completions", CHAT),
    post("/v1/chat/completions", CHAT | {"stream": True}),
    post("/v1/chat/completions", CHAT, H2C),
    post("/v1/chat/completions", CHAT, b"Expect: 100-continue\r\n"),
    post("/v1/messages", CHAT | {"max_tokens": 10}),
    chunked("/v1/chat/completions", CHAT | {"stream": True}),
    post("/v1/chat/completions", CHAT)[:-10],
    post("/v1/chat/completions", CHAT) + get("/health"),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0",
    b"DELETE /v1/conversations/x HTTP/1.1\r\n" + HOST + b"\r\n",
]


async def attack(port: int, data: bytes, manner: float) -> None:
    """Send it and go away: with a reset, in two pieces, or after the answer."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        try:
            if manner < 0.15:
                await stream.send_all(data)
                linger = struct.pack("ii", 1, 0)
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                stream.socket.close()
                return
            cut = int(len(data) * (manner if manner < 0.5 else 1))
            await stream.send_all(data[:cut])
            await stream.send_all(data[cut:])
            await stream.send_eof()
            with trio.fail_after(PATIENCE_SECONDS):
                async for _ in stream:
                    pass
        except trio.BrokenResourceError:
            pass


async def attack_all(port: int) -> None:
    chance = random.Random(20260102)
    limiter = trio.CapacityLimiter(AT_ONCE)

    async def one(data: bytes, manner: float) -> None:
        async with limiter:
            await attack(port, data, manner)

    async with trio.open_nursery() as nursery:
        for _ in range(MUTATIONS):
            nursery.start_soon(one, mutated(SEEDS, chance), chance.random())


def test_it_stands(tmp_path: Path, model: LoopbackProcess) -> None:
    with DaemonProcess(tmp_path, model.base_url, fake_cli_variables()) as daemon:
        base = daemon.wait_serving().base_url
        trio.run(attack_all, int(base.rpartition(":")[2]))
        assert daemon.process.poll() is None
        reply = httpx.post(f"{base}/v1/chat/completions", json=CHAT, timeout=PATIENCE_SECONDS)
        assert reply.status_code == 200
        assert daemon.stop() == 0
        print(f"\n{MUTATIONS} mutated requests, pid {daemon.process.pid} to the end")
        assert [entry for entry in daemon.log if entry["event"] == "incident"] == []
