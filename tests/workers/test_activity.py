"""When a turn has to end: samples and output in, a verdict out, in a time of their own."""

import math
from collections.abc import Callable

import pytest

from maxd.workers.activity import (
    FROZEN_SECONDS,
    SAMPLE_SECONDS,
    Sample,
    TurnWatch,
    Used,
    in_words,
    only_time_passed,
)

LIMIT = 600.0
BEGAN = 1000.0
CLI = (10, 900.0)
SERVER = (11, 950.0)
TOOL = (20, 1005.0)
CHILD = (21, 1006.0)
# As 2.1.330 prints it.
HEARTBEAT = (
    b'{"type":"tool_progress","tool_use_id":"toolu_09bc-heartbeat-0","tool_name":"Bash",'
    b'"parent_tool_use_id":"toolu_09bc","elapsed_time_seconds":30,"heartbeat":true}\n'
)
TEXT = b'{"type":"stream_event","event":{"type":"content_block_delta"}}\n'

Use = Callable[[float], Sample]
"""What a tree has used in all, so many seconds after its turn began."""


def ended_at(
    use: Use,
    *,
    limit: float = LIMIT,
    longest: float = math.inf,
    says: dict[float, bytes] | None = None,
    until: float = 5000.0,
    cost: float = 0.0,
) -> float | None:
    """When a turn is ended whose tree uses `use` and which says `says`; None: not `until` then."""
    watch = TurnWatch(silence_seconds=limit, turn_seconds=longest, began=BEGAN, now=0.0)
    watch.resume(0.0)
    words = sorted((says or {}).items())
    now = 0.0
    while now < until:
        due = watch.due(now)
        assert due >= now, "it never looks back"
        if words and words[0][0] <= due:
            now, said = words.pop(0)
            watch.heard(said, now)
            watch.resume(now)
            continue
        now = due
        if watch.woke(now) and watch.judge(use(now), cost, now) is not None:
            return now
    return None


def nothing(now: float) -> Sample:
    return {CLI: Used(5.0, 1_000_000, 50_000), TOOL: Used(0.2, 100_000, 1000)}


def test_a_turn_that_does_nothing_ends_at_the_limit() -> None:
    assert ended_at(nothing) == LIMIT


def test_what_it_says_last_counts() -> None:
    assert ended_at(nothing, says={100.0: TEXT, 500.5: TEXT}) == 500.5 + LIMIT


def test_heartbeats_do_not_count() -> None:
    beats = {float(second): HEARTBEAT for second in range(30, 5000, 30)}
    assert ended_at(nothing, says=beats) == LIMIT


@pytest.mark.parametrize(
    ("cpu", "read", "written"),
    [(0.017, 370, 35), (0.004, 6, 90), (0.0, 0, 0)],
    ids=["2.1.197", "2.1.330", "frozen"],
)
def test_the_noise_of_the_cli_is_no_progress(cpu: float, read: int, written: int) -> None:
    """Three times what was measured, and for each of its servers as much."""

    def use(now: float) -> Sample:
        noise = Used(3 * cpu * now, int(3 * read * now), int(3 * written * now))
        return {CLI: noise, SERVER: noise, TOOL: Used(0.2)}

    assert ended_at(use) == LIMIT


@pytest.mark.parametrize(
    ("cpu", "read", "written"), [(0.003, 16_000, 0), (0.002, 0, 0)], ids=["lock", "node"]
)
def test_a_tool_that_only_waits_makes_no_progress(cpu: float, read: int, written: int) -> None:
    def use(now: float) -> Sample:
        return {CLI: Used(1.0), TOOL: Used(cpu * now, int(read * now), int(written * now))}

    assert ended_at(use) == LIMIT


@pytest.mark.parametrize(
    "use",
    [
        lambda now: {TOOL: Used(0.0), CHILD: Used(0.03 * now)},
        lambda now: {TOOL: Used(0.0), CHILD: Used(1.0 * (now // 300))},
        lambda now: {TOOL: Used(written=int(4000 * now))},
        lambda now: {TOOL: Used(read=int(100_000 * now))},
        lambda now: {CLI: Used(0.2 * now)},
        lambda now: {CLI: Used(1.0), SERVER: Used(2.0 * (now // 120))},
        # What each compiler has used is its parent's when it has ended.
        lambda now: {TOOL: Used(0.5 * int(now)), (int(now) + 30, 1000.0 + now): Used(0.01)},
        # A process each second, and nobody waits for it.
        lambda now: {TOOL: Used(0.0), (int(now) + 30, 1000.0 + int(now)): Used(0.2)},
    ],
    ids=["child", "bursts", "download", "reads", "cli", "server", "build", "short"],
)
def test_work_is_progress(use: Use) -> None:
    assert ended_at(use) is None


def test_work_that_stops_is_noticed_within_a_sample() -> None:
    def use(now: float) -> Sample:
        return {TOOL: Used(min(now, 1234.5))}

    ended = ended_at(use)
    assert ended is not None
    assert 1234.5 + LIMIT <= ended <= 1234.5 + SAMPLE_SECONDS + LIMIT


def test_ids_that_are_given_again_are_other_processes() -> None:
    """A new process with the id of one that used more: its first use is all of it."""

    def use(now: float) -> Sample:
        return {(20, 1000.0 + now // 60): Used(0.5 if now % 60 else 0.4)}

    assert ended_at(use) is None


def test_a_tree_that_cannot_be_seen_is_judged_by_its_silence() -> None:
    assert ended_at(lambda now: {}) == LIMIT
    watch = TurnWatch(silence_seconds=10, began=BEGAN, now=0.0)
    watch.resume(0.0)
    assert watch.judge(None, 0.0, 9.0) is None
    assert watch.judge(None, 0.0, 10.0) is not None


def test_the_hard_limit_ends_also_what_works_and_speaks() -> None:
    says = {float(second): TEXT for second in range(1, 4000)}
    assert ended_at(lambda now: {TOOL: Used(now)}, longest=90.0) == 90.0
    assert ended_at(nothing, longest=90.0, says=says) == 90.0


def test_the_hard_limit_ends_also_what_nobody_listens_to() -> None:
    watch = TurnWatch(turn_seconds=3.0, began=BEGAN, now=0.0)
    watch.heard(TEXT, 1.0)
    assert watch.due(2.5) == 3.0
    assert watch.woke(3.0)
    assert watch.judge({}, 0.0, 3.0) is not None


def test_time_in_which_nobody_listens_does_not_count() -> None:
    """A client that does not read holds up the reader: the process may well have more to say."""
    watch = TurnWatch(silence_seconds=10, began=BEGAN, now=0.0)
    watch.resume(0.0)
    watch.heard(TEXT, 1.0)
    now = 1.0
    while now < 100.0:
        now = watch.due(now)
        assert not watch.woke(now)
    watch.resume(now)
    while not (watch.woke(due := watch.due(now)) and watch.judge({}, 0.0, due)):
        now = due
    assert due == pytest.approx(110.0, abs=1.0)


@pytest.mark.parametrize("seconds", [FROZEN_SECONDS + 1, 3600.0])
def test_after_a_suspend_the_wait_begins_anew(seconds: float) -> None:
    watch = TurnWatch(silence_seconds=10, turn_seconds=20, began=BEGAN, now=0.0)
    watch.resume(0.0)
    due = watch.due(9.0)
    assert not watch.woke(due + seconds)
    now = due + seconds
    while not (watch.woke(now) and watch.judge(nothing(now), 0.0, now)):
        now = watch.due(now)
    assert now == pytest.approx(due + seconds + 10)
    # The hard limit is later by as much.
    assert watch.due(now + 100) <= 20 + seconds


def test_a_dear_look_is_taken_less_often() -> None:
    looks = 0

    def use(now: float) -> Sample:
        nonlocal looks
        looks += 1
        return nothing(now)

    assert ended_at(use) == LIMIT
    assert looks == LIMIT / SAMPLE_SECONDS
    looks = 0
    assert ended_at(use, cost=0.05) == LIMIT
    assert looks == pytest.approx(LIMIT / 5, abs=2)
    looks = 0
    assert ended_at(use, cost=60.0) == LIMIT
    assert looks == pytest.approx(LIMIT / 10, abs=2)


def test_a_short_limit_is_looked_at_often_enough() -> None:
    assert ended_at(nothing, limit=2.0) == 2.0
    assert ended_at(lambda now: {TOOL: Used(0.5 * now)}, limit=2.0, until=60.0) is None


def test_nothing_is_looked_at_while_it_speaks() -> None:
    watch = TurnWatch(silence_seconds=LIMIT, began=BEGAN, now=0.0)
    for tenth in range(1, 100):
        watch.resume(tenth / 10)
        watch.heard(TEXT, tenth / 10)
        watch.resume(tenth / 10)
        assert not watch.woke(tenth / 10)


@pytest.mark.parametrize(
    ("data", "idle"),
    [
        (HEARTBEAT, True),
        (HEARTBEAT * 3, True),
        (b'{"type":"keep_alive"}\n', True),
        (TEXT, False),
        (HEARTBEAT + TEXT, False),
        (b'{"type":"system","subtype":"status"}\n', False),
        (b"no json\n", False),
        (b'{"other":1}\n', False),
        (HEARTBEAT * 100, False),
        (b"\xff\xfe\n", False),
    ],
)
def test_which_output_is_no_sign_of_life(data: bytes, idle: bool) -> None:
    assert only_time_passed(data) is idle


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (600, "10 minutes"),
        (60, "1 minute"),
        (90, "1.5 minutes"),
        (3, "3 seconds"),
        (1, "1 second"),
        (0.5, "0.5 seconds"),
    ],
)
def test_limits_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
