"""What is found out about the login: its end, another one, and a key that outranks it."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from maxd.daemon.backend import API_KEY, LOOK_SECONDS, Backend
from tests.daemon.stand_ins import logger

if TYPE_CHECKING:
    from maxd.workers.faults import BackendUnavailable


class Told:
    """What a Backend has told its listener."""

    def __init__(self) -> None:
        self.faults: list[BackendUnavailable | None] = []
        self.expiring: list[float] = []
        self.renewed = 0
        self.replaced = 0

    def changed(self, fault: "BackendUnavailable | None") -> None:
        self.faults.append(fault)

    def login_expiring(self, expires_at: float) -> None:
        self.expiring.append(expires_at)

    def login_renewed(self) -> None:
        self.renewed += 1

    def login_replaced(self) -> None:
        self.replaced += 1


class Home:
    """A program that answers `auth status` as it is told."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.cli = folder / "claude"
        # With the key in its environment it answers from another file.
        self.cli.write_text(
            f'#!/bin/sh\nif [ -n "${API_KEY}" ]; then cat "{folder}/key"; '
            f'else cat "{folder}/login"; fi\n'
        )
        self.cli.chmod(0o755)
        self.answer("key", loggedIn=True, authMethod="api_key", apiKeySource=API_KEY)
        self.log, self._capture = logger()

    def answer(self, name: str, **status: object) -> None:
        (self._folder / name).write_text(json.dumps(status))

    def log_in(self, expires_in: float | None = None, method: str = "claude.ai") -> float:
        ends = None if expires_in is None else (time.time() + expires_in) * 1000
        self.answer("login", loggedIn=True, authMethod=method, loginExpiresAt=ends)
        return 0.0 if ends is None else ends / 1000

    def backend(self, **environment: str) -> Backend:
        return Backend(str(self.cli), {"PATH": "/usr/bin:/bin", **environment}, self.log)

    def warnings(self) -> list[str]:
        return [e["event"] for e in self._capture.entries if e["log_level"] == "warning"]


async def look(backend: Backend, told: Told | None = None) -> Told:
    """Have it look once. What it tells is added to what it has `told` before."""
    told = told or Told()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(backend.run, told)
            nursery.cancel_scope.cancel()
    return told


async def test_a_key_that_outranks_a_login_is_reported(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.log_in()
    backend = home.backend(**{API_KEY: "sk-canary"})
    told = await look(backend)
    assert backend.login_outranked
    assert backend.login is not None
    assert backend.login.method == "api_key"
    [warning] = home.warnings()
    assert API_KEY in warning
    assert "canary" not in warning
    assert told.faults == [None]


async def test_a_key_that_is_all_there_is_is_no_news(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.answer("login", loggedIn=False, authMethod="none")
    backend = home.backend(**{API_KEY: "sk-canary"})
    await look(backend)
    assert not backend.login_outranked
    assert home.warnings() == []


async def test_a_login_that_ends_soon_is_told_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    ends = home.log_in(3600)
    backend = home.backend()
    told = await look(backend, await look(backend))
    assert len(told.expiring) == 1
    assert abs(told.expiring[0] - ends) < 1


async def test_a_login_that_lasts_and_one_without_an_end_are_not_told(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for ends in (30 * 86_400, None):
        home.log_in(ends)
        told = await look(home.backend())
        assert told.expiring == []
    assert LOOK_SECONDS <= 86_400, "it is seen days before its end"


async def test_a_login_that_was_renewed_is_told_once_and_its_next_end_again(tmp_path: Path) -> None:
    home = Home(tmp_path)
    backend, told = home.backend(), Told()
    for ends, counts in ((86_400, (1, 0)), (30 * 86_400, (1, 1)), (None, (1, 1)), (86_400, (2, 1))):
        home.log_in(ends)
        await look(backend, told)
        assert (len(told.expiring), told.renewed) == counts


async def test_another_kind_of_login_is_told(tmp_path: Path) -> None:
    home = Home(tmp_path)
    backend, told = home.backend(), Told()
    for method, replaced in (("claude.ai", 0), ("claude.ai", 0), ("oauth_token", 1)):
        home.log_in(method=method)
        await look(backend, told)
        assert told.replaced == replaced
