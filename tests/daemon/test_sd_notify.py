"""What the service manager hears, on real sockets; and when it is told READY, in virtual time."""

import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from maxd.daemon.manager import READY_SECONDS, REFUSED_SECONDS, Health, keep_told
from maxd.daemon.sd_notify import Announcer, watchdog_seconds
from maxd.workers.states import State


class Ear:
    """The manager's socket."""

    def __init__(self, address: str | bytes, name: str) -> None:
        self.name = name
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(address)
        self.sock.setblocking(False)

    def heard(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self.sock.recv(4096).decode())
            except BlockingIOError:
                return messages


@pytest.fixture(params=["path", "abstract"])
def ear(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ear]:
    name = f"maxd-{secrets.token_hex(8)}"
    if request.param == "path":
        ear = Ear(str(tmp_path / "n"), str(tmp_path / "n"))
    else:
        ear = Ear(b"\0" + name.encode(), f"@{name}")
    yield ear
    ear.sock.close()


@pytest.fixture
def announcer(ear: Ear) -> Iterator[Announcer]:
    announcer = Announcer({"NOTIFY_SOCKET": ear.name, "WATCHDOG_USEC": "20000000"})
    yield announcer
    announcer.close()


def test_each_message(ear: Ear, announcer: Announcer) -> None:
    announcer.status("two\nlines  here")
    announcer.ready("1 spares")
    announcer.alive()
    assert ear.heard() == ["STATUS=two lines here", "READY=1\nSTATUS=1 spares", "WATCHDOG=1"]
    before = time.monotonic_ns() // 1000
    announcer.reloading()
    (message,) = ear.heard()
    first, second = message.splitlines()
    assert first == "RELOADING=1"
    moment = int(second.removeprefix("MONOTONIC_USEC="))
    assert before <= moment <= time.monotonic_ns() // 1000
    announcer.stopping("bye")
    announcer.ready("nothing of it")
    announcer.status("nothing of it")
    announcer.alive()
    assert ear.heard() == ["STOPPING=1\nSTATUS=bye", "WATCHDOG=1"]


def test_a_manager_that_is_gone_or_deaf_is_no_trouble(ear: Ear, announcer: Announcer) -> None:
    for _ in range(5000):
        announcer.alive()
    ear.sock.close()
    announcer.alive()
    announcer.close()
    announcer.alive()


@pytest.mark.parametrize("name", ["", "relative", "@", "vsock:2:1234"])
def test_without_a_manager_nothing_is_sent(name: str) -> None:
    announcer = Announcer({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000000"})
    announcer.ready("")
    assert announcer.watchdog_seconds is None


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_hears_at_half_its_time(
    variables: dict[str, str], seconds: float | None
) -> None:
    assert watchdog_seconds(variables) == seconds


class Service:
    """How it is, as the test says."""

    def __init__(self, *, keeps_spares: bool = True) -> None:
        self.counts = dict.fromkeys(State, 0)
        self.refusal: str | None = None
        self.health = Health(
            lambda: self.counts,
            lambda: 0,
            lambda: 0,
            lambda: self.refusal,
            keeps_spares=keeps_spares,
        )


def ready(messages: list[str]) -> list[str]:
    return [message for message in messages if message.startswith("READY=1")]


async def test_ready_is_told_with_the_first_spare(
    ear: Ear, announcer: Announcer, autojump_clock: trio.abc.Clock
) -> None:
    service = Service()
    async with trio.open_nursery() as nursery:
        await nursery.start(keep_told, announcer, service.health)
        await trio.sleep(20)
        assert not ready(ear.heard())
        service.counts[State.SPARE] = 1
        await trio.sleep(1)
        assert ready(ear.heard()) == [
            "READY=1\nSTATUS=1 spares, 0 starting, 0 turns running, 0 queued"
        ]
        service.counts[State.LEASED] = 1
        service.refusal = "it is broken"
        await trio.sleep(2)
        assert "STATUS=degraded: it is broken" in ear.heard()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("refusal", "seconds"), [(None, READY_SECONDS), ("logged out", REFUSED_SECONDS)]
)
async def test_it_does_not_wait_for_ever(
    ear: Ear,
    announcer: Announcer,
    autojump_clock: trio.abc.Clock,
    refusal: str | None,
    seconds: float,
) -> None:
    service = Service()
    service.refusal = refusal
    async with trio.open_nursery() as nursery:
        await nursery.start(keep_told, announcer, service.health)
        await trio.sleep(seconds - 1)
        assert not ready(ear.heard())
        await trio.sleep(2)
        assert len(ready(ear.heard())) == 1
        nursery.cancel_scope.cancel()


async def test_without_spares_it_is_ready_at_once(
    ear: Ear, announcer: Announcer, autojump_clock: trio.abc.Clock
) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(keep_told, announcer, Service(keeps_spares=False).health)
        await wait_all_tasks_blocked()
        at_once = ear.heard()
        assert ready(at_once)
        assert at_once.count("WATCHDOG=1") == 1
        await trio.sleep(95)
        # Every 10 s.
        assert ear.heard().count("WATCHDOG=1") == 9
        nursery.cancel_scope.cancel()
