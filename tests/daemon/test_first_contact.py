"""Who talks to the service first where the login may have to be renewed."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from maxd.daemon.first_contact import PATIENCE_SECONDS, FirstContact
from maxd.daemon.renewal import EXPIRING_SECONDS, PROVED_SECONDS, is_expiring, needs_proof
from maxd.workers.cli import Login

NOW = 1_800_000_000.0
RENEWED = Login(state="logged_in", method="claude.ai", expires_at=NOW + 86_400)


@pytest.mark.parametrize(
    ("login", "since", "needed"),
    [
        (None, None, False),
        (Login(state="unknown"), None, False),
        (Login(state="logged_in", method="api_key"), None, False),
        (Login(state="logged_in", method="oauth_token"), None, False),
        (RENEWED, None, True),
        (RENEWED, 0, False),
        (RENEWED, PROVED_SECONDS, False),
        (RENEWED, PROVED_SECONDS + 1, True),
        (Login(state="logged_in", method="claude.ai"), 1, False),
        (Login(state="logged_in", method="claude.ai", expires_at=NOW + 299), 1, True),
        (Login(state="logged_in", method="claude.ai", expires_at=NOW - 1), 1, True),
    ],
)
def test_when_a_turn_may_be_the_one_that_renews(
    login: Login | None, since: float | None, needed: bool
) -> None:
    assert needs_proof(login, since, NOW) is needed


def test_when_its_owner_should_log_in_again() -> None:
    def ends(seconds: float) -> Login:
        return Login(state="logged_in", expires_at=NOW + seconds)

    assert [is_expiring(ends(EXPIRING_SECONDS + more), NOW) for more in (1, 0)] == [False, True]
    assert not is_expiring(Login(state="logged_in"), NOW)


class Turns:
    """Turns that come to the gate; `inside` are those it has let through."""

    def __init__(self, nursery: trio.Nursery, login: Login | None = RENEWED) -> None:
        self.gate = FirstContact(lambda: login, wall=lambda: NOW)
        self.inside: list[int] = []
        self._nursery = nursery

    async def come(self, *turns: int) -> list[int]:
        for turn in turns:
            self._nursery.start_soon(self._enter, turn)
            await wait_all_tasks_blocked()
        return self.inside

    async def _enter(self, turn: int) -> None:
        await self.gate.enter(turn)
        self.inside.append(turn)


async def test_one_goes_first_and_the_others_follow_its_answer() -> None:
    async with trio.open_nursery() as nursery:
        turns = Turns(nursery)
        assert await turns.come(1, 2, 3) == [1]
        turns.gate.left(2)
        turns.gate.answered(1)
        await wait_all_tasks_blocked()
        assert sorted(turns.inside) == [1, 2, 3]
        assert await turns.come(4) == [*turns.inside]
        assert 4 in turns.inside, "the login is proved"


async def test_one_that_ends_without_an_answer_leaves_it_to_the_next() -> None:
    async with trio.open_nursery() as nursery:
        turns = Turns(nursery)
        await turns.come(1, 2, 3)
        turns.gate.left(1)
        await wait_all_tasks_blocked()
        assert len(turns.inside) == 2
        turns.gate.answered(turns.inside[1])
        await wait_all_tasks_blocked()
        assert len(turns.inside) == 3


async def test_the_first_may_come_again() -> None:
    async with trio.open_nursery() as nursery:
        assert await Turns(nursery).come(1, 1) == [1, 1]


async def test_a_login_that_is_never_renewed_holds_up_nobody() -> None:
    async with trio.open_nursery() as nursery:
        key = Login(state="logged_in", method="api_key")
        assert await Turns(nursery, key).come(1, 2, 3) == [1, 2, 3]


async def test_nobody_waits_for_ever(autojump_clock: MockClock) -> None:
    gate = FirstContact(lambda: RENEWED, wall=lambda: NOW)
    await gate.enter(1)
    began = trio.current_time()
    await gate.enter(2)
    assert trio.current_time() - began == PATIENCE_SECONDS


async def test_a_proof_does_not_last(autojump_clock: MockClock) -> None:
    gate = FirstContact(lambda: RENEWED, wall=lambda: NOW)
    await gate.enter(1)
    gate.answered(1)
    await trio.sleep(PROVED_SECONDS + 1)
    async with trio.open_nursery() as nursery:
        await gate.enter(2)
        nursery.start_soon(gate.enter, 3)
        await trio.sleep(1)
        gate.answered(2)


async def test_who_comes_again_and_again_waits_no_longer_than_who_waits(
    autojump_clock: MockClock,
) -> None:
    """As a turn does between whose heartbeats its client is told that it lives."""
    gate = FirstContact(lambda: RENEWED, wall=lambda: NOW)
    await gate.enter(1)
    began = trio.current_time()
    inside = False
    while not inside and trio.current_time() < began + 10 * PATIENCE_SECONDS:
        with trio.move_on_after(PATIENCE_SECONDS * 0.75):
            await gate.enter(2)
            inside = True
    assert inside
    assert trio.current_time() - began == PATIENCE_SECONDS
    gate.left(2)
    with trio.move_on_after(PATIENCE_SECONDS / 2) as once_more:
        await gate.enter(2)
    assert once_more.cancelled_caught, "one that has left begins anew"


async def test_whoever_is_answered_lets_the_others_in(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        turns = Turns(nursery)
        nursery.start_soon(turns.gate.enter, 1)
        nursery.start_soon(turns.gate.enter, 2)
        await trio.sleep(PATIENCE_SECONDS + 1)
        began = trio.current_time()
        nursery.start_soon(turns.gate.enter, 3)
        await trio.sleep(1)
        turns.gate.answered(2)
    assert trio.current_time() == began + 1
