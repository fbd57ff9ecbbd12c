"""How the operator's picture is put together."""

import msgspec
import pytest

from maxd.daemon.chronicle import Member
from maxd.daemon.settings import Config, settings
from maxd.daemon.slots import Key, Slot
from maxd.daemon.status import (
    SHOWN_SETTINGS,
    MostEver,
    Status,
    Used,
    daemon_state,
    pool_status,
    shown_settings,
    worker_statuses,
)
from maxd.daemon.turn_facts import RunningTurn
from maxd.workers.faults import Overloaded
from maxd.workers.states import State
from tests.daemon.telling import status

KEY = Key("chat", "sonnet")


@pytest.mark.parametrize(
    ("fault", "stopping", "state"),
    [
        (None, False, "serving"),
        (Overloaded("no"), False, "unavailable"),
        (Overloaded("stopping"), True, "stopping"),
        (None, True, "stopping"),
    ],
)
def test_what_the_daemon_is_doing(fault: Overloaded | None, stopping: bool, state: str) -> None:
    assert daemon_state(fault, stopping=stopping) == state


def test_only_named_settings_are_shown() -> None:
    assert set(SHOWN_SETTINGS) <= {setting.path for setting in settings()}
    assert set(shown_settings(Config())) == set(SHOWN_SETTINGS)
    hidden = ("key", "token", "secret", "url", "notif", "environ")
    assert not [name for name in SHOWN_SETTINGS if any(word in name for word in hidden)]


def test_workers_are_counted_by_state_and_those_stuck_take_no_room() -> None:
    states = [State.SPARE, State.LEASED, State.LEASED, State.IDLE, State.STARTING, State.STUCK]
    slots = [Slot(f"w{n}", KEY, state) for n, state in enumerate(states)]
    pool = pool_status(
        slots, limit=8, queued=3, queue_limit=9, queue_age=1.23456, most=MostEver(workers=7)
    )
    assert (pool.size, pool.limit, pool.stuck) == (5, 8, 1)
    assert (pool.spares, pool.leased, pool.idle, pool.starting) == (1, 2, 1, 1)
    assert (pool.queued, pool.queue_limit, pool.queue_age) == (3, 9, 1.2)


def test_a_worker_shows_its_running_turn_or_what_it_did_last() -> None:
    busy, idle, stuck, new = worker_statuses(
        [
            (Slot("w1", KEY, State.LEASED, turns=2), 101),
            (Slot("w2", KEY, State.IDLE), 102),
            (Slot("w3", KEY, State.STUCK), None),
            (Slot("w4", KEY, State.STARTING), None),
        ],
        {"w1": RunningTurn(request="req_1", conversation="conv_new", age=3.04, quiet=0.5)},
        {
            "w1": Member(pid=101, conversation="conv_old", active_at=10.0),
            "w2": Member(pid=102, conversation="conv_2", active_at=90.0),
            "w3": Member(pid=103, active_at=50.0),
        },
        {101: Used(cpu=12.5, memory=1000)},
        100.0,
    )
    assert (busy.conversation, busy.request, busy.turn_age, busy.last_activity) == (
        "conv_new",
        "req_1",
        3.0,
        0.5,
    )
    assert (busy.cpu, busy.memory, busy.turns) == (12.5, 1000, 2)
    assert (idle.conversation, idle.turn_age, idle.last_activity, idle.cpu) == (
        "conv_2",
        None,
        10.0,
        None,
    )
    assert stuck.pid == 103, "whoever looks for it needs its id"
    assert (new.pid, new.last_activity) == (None, None)


def test_the_picture_survives_the_way_over_http() -> None:
    shown = status()
    again = msgspec.json.decode(msgspec.json.encode(shown), type=Status)
    assert msgspec.json.encode(again) == msgspec.json.encode(shown)
