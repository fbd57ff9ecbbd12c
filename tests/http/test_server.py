"""The accept loop, many connections at once, the end of the server, and mutated requests."""

import os
import random
import resource
import socket

import pytest
import trio
import trio.testing

from maxd.http.connection import Limits
from maxd.http.guard import Reply
from maxd.http.http1 import Incident
from maxd.http.server import PortTaken, open_sockets
from maxd.workers.faults import Fault
from tests.http.malformed import MALFORMED
from tests.http.mutations import HOST, WELL_FORMED, mutated
from tests.http.serving import CANARY, Site, running


def close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def test_localhost_is_every_loopback_address_at_one_port() -> None:
    sockets = open_sockets("localhost", 0)
    try:
        assert {sock.getsockname()[0] for sock in sockets} <= {"127.0.0.1", "::1"}
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
        assert not any(sock.get_inheritable() for sock in sockets)
    finally:
        close(sockets)


def test_ipv6_loopback() -> None:
    try:
        sockets = open_sockets("::1", 0)
    except OSError:
        pytest.skip("no IPv6 on this machine")
    assert [sock.getsockname()[0] for sock in sockets] == ["::1"]
    close(sockets)


def test_a_taken_port_is_a_typed_error() -> None:
    sockets = open_sockets("127.0.0.1", 0)
    port = sockets[0].getsockname()[1]
    try:
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(PortTaken, match=str(port)):
                open_sockets(host, port)
    finally:
        close(sockets)


def test_a_name_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(socket.gaierror):
        open_sockets("name.invalid", 0)


async def test_a_thousand_connections_at_once() -> None:
    async with running() as site:
        arrived = 0
        all_here = trio.Event()

        async def visit() -> None:
            nonlocal arrived
            async with site.client() as client:
                await client.get("/hi")
                assert (await client.reply())[0] == 200
                arrived += 1
                if arrived == 1000:
                    all_here.set()
                await all_here.wait()
                await client.get("/hi")
                assert (await client.reply())[0] == 200

        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                nursery.start_soon(visit)
        assert site.incidents == []


async def test_beyond_the_limit_a_connection_waits_for_another_to_end() -> None:
    limits = Limits(connections=1)
    async with running(limits) as site, site.client() as first, site.client() as second:
        await second.get("/hi")
        await first.get("/stall")
        await site.calls.started.wait()
        site.calls.go.set()
        await first.reply()
        await first.stream.aclose()
        assert (await second.reply())[0] == 200


async def test_an_exception_in_one_connection_ends_that_connection_only() -> None:
    def broken(fault: Fault) -> Reply:
        raise ValueError(CANARY)

    async with running(write=broken) as site, site.client() as other:
        await other.get("/stall")
        await site.calls.started.wait()
        assert await site.exchange(b"\0\r\n\r\n") == b""
        assert await site.exchange(b"GET /fail HTTP/1.1\r\n" + HOST + b"\r\n") == b""
        site.calls.go.set()
        assert (await other.reply())[2] == b"went"
        assert [(each.place, each.error) for each in site.incidents] == [
            ("connection", "ValueError"),
            ("handler", "ValueError"),
            ("connection", "ValueError"),
        ]


async def test_running_out_of_files_is_survived() -> None:
    async with running() as site:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        sock = trio.socket.socket()
        free = os.dup(0)
        os.close(free)
        with sock:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
                await sock.connect(("127.0.0.1", site.port))
                while not site.incidents:
                    await trio.testing.wait_all_tasks_blocked()
                    await trio.lowlevel.checkpoint()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await sock.send(b"GET /hi HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await sock.recv(1000)).startswith(b"HTTP/1.1 200")
        assert set(site.incidents) == {Incident("accept", "EMFILE")}


async def test_stopping_ends_idle_connections_and_waits_for_replies() -> None:
    async with running(Limits(graceful_seconds=30)) as site:
        async with site.client() as idle, site.client() as busy, site.client() as fresh:
            await idle.get("/hi")
            await idle.reply()
            await busy.get("/stall")
            await site.calls.started.wait()
            site.shutdown.set()
            assert await idle.rest() == b""
            assert await fresh.rest() == b""
            with pytest.raises(OSError, match="all attempts to connect"):
                await trio.open_tcp_stream("127.0.0.1", site.port)
            site.calls.go.set()
            status, head, body = await busy.reply()
            assert (status, body) == (200, b"went")
            assert "connection: close" in head
            assert await busy.rest() == b""
        await site.stopped.wait()


@pytest.mark.parametrize("path", ["/stall", "/stream", "/flood"])
async def test_stopping_does_not_wait_for_ever(path: str) -> None:
    """A client that does not read kept hypercorn from ending at all."""
    async with running(Limits(graceful_seconds=0.1)) as site, site.client() as client:
        await client.get(path)
        await site.calls.started.wait()
        site.shutdown.set()
        await site.calls.cancelled.wait()
        await site.stopped.wait()


SEEDS = [sent[:2000] for sent, _ in MALFORMED.values()] + WELL_FORMED


async def test_mutated_requests_leave_the_server_standing() -> None:
    chance = random.Random(20260101)
    corpus = [(mutated(SEEDS, chance), chance.random()) for _ in range(600)]
    limits = Limits(header_seconds=1, linger_seconds=0.2, graceful_seconds=1)
    async with running(limits, body_deadline=1) as site:
        room = trio.Semaphore(20)

        async def attack(site: Site, data: bytes, manner: float) -> None:
            async with room, site.client() as client:
                try:
                    await client.send(data)
                    if manner < 0.2:
                        client.reset()
                        return
                    await client.stream.send_eof()
                except trio.BrokenResourceError:
                    return
                await client.rest()

        async with trio.open_nursery() as nursery:
            for data, manner in corpus:
                nursery.start_soon(attack, site, data, manner)
        await site.answers()
        assert {incident.place for incident in site.incidents} <= {"handler"}
        assert {incident.error for incident in site.incidents} <= {"ValueError"}
