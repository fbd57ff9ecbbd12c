"""Reading bodies: whole, too large, too slow, too many, half."""

import json
from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing
from quart_trio.wrappers.request import TrioBody

from maxd.http.body import Budget, read_body
from maxd.workers.faults import BadRequest, Overloaded, TooLarge
from tests.http.serving import running

if TYPE_CHECKING:
    from quart import Request


class Incoming:
    """A request of which only the body matters."""

    def __init__(self) -> None:
        self.body = TrioBody(None, None)


def incoming() -> "tuple[TrioBody, Request]":
    request = Incoming()
    return request.body, cast("Request", request)


async def test_a_body_in_parts_is_put_together(autojump_clock: trio.testing.MockClock) -> None:
    body, request = incoming()
    budget = Budget(10)

    async def send() -> None:
        for part in (b"ab", b"cd", b"ef"):
            await trio.sleep(1)
            body.append(part)
        assert budget.used == 4
        body.set_complete()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        assert await read_body(request, limit=6, budget=budget) == b"abcdef"
    assert budget.used == 0


async def test_an_empty_body() -> None:
    body, request = incoming()
    body.set_complete()
    assert await read_body(request, limit=6, budget=Budget(10)) == b""


async def test_one_byte_too_many() -> None:
    body, request = incoming()
    budget = Budget(10)
    body.append(b"abcdefg")
    with pytest.raises(TooLarge):
        await read_body(request, limit=6, budget=budget)
    assert budget.used == 0


async def test_a_trickle_does_not_extend_the_deadline(
    autojump_clock: trio.testing.MockClock,
) -> None:
    body, request = incoming()
    budget = Budget(1000)

    async def trickle() -> None:
        while True:
            body.append(b"x")
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trickle)
        with pytest.raises(BadRequest) as caught:
            await read_body(request, limit=1000, budget=budget)
        nursery.cancel_scope.cancel()
    assert caught.value.status == 408
    assert budget.used == 0


async def test_a_used_up_budget_refuses_the_next_and_is_given_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    budget = Budget(10)
    slow, slow_request = incoming()
    slow.append(b"12345678")
    late, late_request = incoming()
    late.append(b"abc")
    async with trio.open_nursery() as nursery:

        async def read_slowly() -> None:
            await read_body(slow_request, limit=10, budget=budget)

        nursery.start_soon(read_slowly)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Overloaded) as caught:
            await read_body(late_request, limit=10, budget=budget)
        assert caught.value.retry_after
        assert repr(budget) == "<Budget 8 of 10 bytes used>"
        nursery.cancel_scope.cancel()
    assert budget.used == 0


@pytest.mark.parametrize("length", [1, 1000, 1_000_000])
async def test_over_the_wire(length: int) -> None:
    async with running() as site, site.client() as client:
        await client.post("/echo", bytes(length))
        assert (await client.reply())[2] == str(length).encode()


async def test_chunks_over_the_limit_are_refused_before_their_end() -> None:
    async with running() as site, site.client() as client:
        await client.send(
            b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n" % 1_000_001 + bytes(1_000_001)
        )
        status, head, _ = await client.reply()
        assert status == 413
        assert "connection: close" in head
        assert await client.rest() == b""


async def test_a_length_over_the_limit_is_refused_before_the_body() -> None:
    async with running() as site, site.client() as client:
        await client.post("/echo", b"", length=1_000_000_000)
        assert (await client.reply())[0] == 413


async def test_a_slow_body_is_a_408_in_json() -> None:
    async with running(body_deadline=0.1) as site, site.client() as client:
        await client.post("/echo", b"{", length=100)
        status, head, body = await client.reply()
        assert status == 408
        assert "connection: close" in head
        assert json.loads(body)["error"]["code"] == "request_timeout"
        assert await client.rest() == b""
        assert site.incidents == []


async def test_many_large_bodies_at_once_are_served_or_refused_but_never_pile_up() -> None:
    async with running() as site:
        statuses: set[int] = set()

        async def upload() -> None:
            async with site.client() as client:
                await client.post("/echo", bytes(900_000))
                statuses.add((await client.reply())[0])

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(upload)
        assert statuses <= {200, 503}
        await site.answers()
