"""One client's connection: reuse, its ends, its deadlines, hostile bytes, failing handlers."""

import json
from contextlib import suppress

import pytest
import trio
import trio.testing

from maxd.http.connection import Limits
from maxd.http.http1 import Incident
from tests.http.malformed import MALFORMED
from tests.http.mutations import HOST, JSON
from tests.http.serving import CANARY, Site, running


async def test_a_connection_is_reused() -> None:
    async with running() as site, site.client() as client:
        # The next request may arrive before the last handler has returned.
        for _ in range(300):
            await client.get("/hi")
            status, head, body = await client.reply()
            assert (status, body) == (200, b'{"ok":true}')
            assert "connection: close" not in head
        assert site.incidents == []


async def test_a_small_reply_is_one_segment() -> None:
    async with running() as site, site.client() as client:
        await client.get("/hi")
        assert (await client.stream.receive_some()).endswith(b'{"ok":true}')


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /hi HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /hi HTTP/1.0\r\nHost: localhost\r\n\r\n",
    ],
)
async def test_the_connection_ends_when_the_client_wants_it(request_: bytes) -> None:
    async with running() as site:
        reply = await site.exchange(request_)
        assert reply.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in reply.lower()


async def test_an_idle_connection_is_closed() -> None:
    async with running(Limits(idle_seconds=0.1)) as site, site.client() as client:
        await client.get("/hi")
        await client.reply()
        assert await client.rest() == b""
        assert site.incidents == []


async def test_a_head_request_has_no_body() -> None:
    async with running() as site:
        reply = await site.exchange(
            b"HEAD /hi HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        assert reply.startswith(b"HTTP/1.1 200")
        assert reply.endswith(b"\r\n\r\n")


async def test_pipelined_requests_are_answered_in_order() -> None:
    one = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    async with running() as site, site.client() as client:
        await client.send(
            b"".join(one + b"Content-Length: %d\r\n\r\n" % n + b"x" * n for n in b"\1\2\3")
        )
        assert [(await client.reply())[2] for _ in range(3)] == [b"1", b"2", b"3"]


async def test_a_request_that_came_during_a_reply_is_answered_after_it() -> None:
    async with running() as site, site.client() as client:
        await client.get("/stall")
        await site.calls.started.wait()
        await client.get("/hi")
        site.calls.go.set()
        assert (await client.reply())[2] == b"went"
        assert (await client.reply())[2] == b'{"ok":true}'


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("stray", [b"", b"G", b"GET /hi HTTP/1.1\r\nHost: localhost\r\n\r\n"])
@pytest.mark.parametrize("path", ["/stall", "/stream", "/flood"])
async def test_a_client_that_goes_away_cancels_its_handler(
    path: str, stray: bytes, reset: bool
) -> None:
    async with running() as site:
        async with site.client() as client:
            await client.get(path)
            await site.calls.started.wait()
            if stray:
                await client.send(stray)
            if reset:
                client.reset()
        await site.calls.cancelled.wait()
        await site.answers()
        assert site.incidents == []


async def test_too_much_behind_a_request_is_dropped_and_the_connection_closed() -> None:
    async with running(Limits(ahead_bytes=10)) as site, site.client() as client:
        await client.get("/stall")
        await site.calls.started.wait()
        await client.get("/hi")
        await trio.testing.wait_all_tasks_blocked(0.05)
        site.calls.go.set()
        status, head, body = await client.reply()
        assert (status, body) == (200, b"went")
        assert "connection: close" in head
        assert await client.rest() == b""


async def test_far_too_much_behind_a_request_resets_the_connection() -> None:
    async with running(Limits(surplus_bytes=100_000)) as site, site.client() as client:
        await client.get("/stall")
        await site.calls.started.wait()
        with pytest.raises(trio.BrokenResourceError):
            await client.send(bytes(20_000_000))
        await site.calls.cancelled.wait()


async def test_a_client_that_does_not_read_is_cut_at_the_send_deadline() -> None:
    async with running(Limits(send_seconds=0.2)) as site, site.client() as client:
        await client.get("/flood")
        await site.calls.started.wait()
        await site.answers()
        await site.calls.cancelled.wait()
        assert site.incidents == [Incident("connection", "SlowReader")]


@pytest.mark.parametrize("sent", [b"", b"G", b"GET /hi HTTP/1.1\r\nHost: localhost\r\n"])
@pytest.mark.parametrize("after_a_request", [True, False])
async def test_a_slow_header_ends_the_connection(sent: bytes, after_a_request: bool) -> None:
    limits = Limits(header_seconds=0.2, idle_seconds=0.2 if not sent else 75.0)
    async with running(limits) as site, site.client() as client:
        if after_a_request:
            await client.get("/hi")
            await client.reply()
        if sent:
            await client.send(sent)
        assert await client.rest() == b""


async def test_a_trickle_does_not_extend_the_time_for_a_header() -> None:
    async with running(Limits(header_seconds=0.3)) as site, site.client() as client:

        async def trickle() -> None:
            with suppress(trio.BrokenResourceError):
                while True:
                    await client.send(b"x")
                    # So often that each comes long before the time is up.
                    await trio.sleep(0.02)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle)
            await client.rest()
        assert site.incidents == [Incident("connection", "SlowHeader")]


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_requests_are_refused_in_json_and_closed(name: str) -> None:
    sent, status = MALFORMED[name]
    async with running() as site:
        reply = await site.exchange(sent)
        head, _, body = reply.partition(b"\r\n\r\n")
        assert int(head.split()[1]) == status
        assert b"connection: close" in head.lower()
        assert sent.startswith(b"HEAD") or json.loads(body)["error"]["message"]
        await site.answers()
        assert site.incidents == []


async def test_an_upgrade_to_http2_is_ignored() -> None:
    async with running() as site, site.client() as client:
        await client.get(
            "/hi", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"
        )
        assert (await client.reply())[0] == 200
        await client.get("/stall", "Upgrade: h2c", "Connection: Upgrade")
        await site.calls.started.wait()
        await client.stream.aclose()
        await site.calls.cancelled.wait()


async def test_half_a_body_is_answered_with_400() -> None:
    async with running() as site, site.client() as client:
        await client.post("/echo", b"{", length=100)
        await client.stream.send_eof()
        assert (await client.reply())[0] == 400
        assert await client.rest() == b""
        assert site.incidents == []


async def test_a_refused_body_is_not_read_and_the_reply_arrives() -> None:
    async with running() as site, site.client() as client:
        await client.post("/refuse", bytes(500_000), length=1_000_000_000)
        status, head, _ = await client.reply()
        assert status == 413
        assert "connection: close" in head


async def test_a_client_that_asks_is_told_to_continue() -> None:
    async with running() as site, site.client() as client:
        await client.send(
            b"POST /echo HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 2\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert await client.head() == "http/1.1 100 "
        await client.send(b"{}")
        assert (await client.reply())[2] == b"2"


@pytest.mark.parametrize("path", ["/fail", "/fail-in-group", "/fail-at-first-byte"])
async def test_a_handler_that_fails_before_the_first_byte_is_a_500_in_json(path: str) -> None:
    async with running() as site, site.client() as client:
        await client.get(path)
        status, head, body = await client.reply()
        assert status == 500
        assert json.loads(body)["error"]["code"] == "internal_error"
        assert CANARY not in head + body.decode()
        await client.get("/hi")
        assert (await client.reply())[0] == 200
        [found] = site.incidents
        assert (found.place, found.error) == ("handler", "ValueError")
        assert found.at.startswith("http/serving.py:")


async def test_a_handler_that_fails_later_leaves_a_reply_without_an_end() -> None:
    async with running() as site, site.client() as client:
        await client.get("/fail-later")
        assert "transfer-encoding: chunked" in await client.head()
        assert await client.rest() == b"5\r\nbegun\r\n"
        [found] = site.incidents
        assert (found.place, found.error) == ("handler", "ValueError")
        assert found.at.startswith("http/serving.py:")
        await site.answers()


async def _silent(site: Site, path: str) -> None:
    async with site.client() as client:
        await client.get(path)
        await client.rest()


async def test_a_failing_handler_does_not_touch_other_connections() -> None:
    async with running() as site, site.client() as client:
        await client.get("/stall")
        await site.calls.started.wait()
        for path in ("/fail-later", "/fail-later"):
            await _silent(site, path)
        site.calls.go.set()
        assert (await client.reply())[2] == b"went"


async def test_a_client_can_be_told_that_its_request_is_worked_on() -> None:
    async with running() as site, site.client() as client:
        await client.get("/processing", "Connection: close")
        for _ in range(3):
            assert (await client.head()).startswith("http/1.1 102")
        assert (await client.head()).startswith("http/1.1 200")
        chunks = await client.rest()
        assert b"begun" in chunks
        assert b" and ended" in chunks
        assert b"102" not in chunks, "the reply had begun"
        assert site.incidents == []
