"""What a turn has cost, however it ended."""

import pytest
import trio
from trio.testing import MockClock

from maxd.daemon.key_costs import KeyCosts
from maxd.daemon.keys import ApiKey
from maxd.daemon.quotas import Quotas
from maxd.daemon.turn_watch import TurnWatch
from maxd.workers.turn import (
    Event,
    Finished,
    Message,
    RoundStarted,
    Text,
    TextDelta,
    ThinkingDelta,
    Turn,
    Usage,
)

TURN = Turn(profile="chat", model="sonnet", messages=(Message("user", (Text("hi"),)),))
STARTED = RoundStarted("m", Usage(input_tokens=100, cache_creation_tokens=20, cache_read_tokens=3))
# Eight characters of ASCII are about two tokens.
TOLD: tuple[Event, ...] = (STARTED, ThinkingDelta("abcd"), TextDelta("efgh"))


@pytest.mark.parametrize(
    ("events", "finished", "tokens"),
    [
        ((), None, 0),
        (TOLD, None, 125),
        ((*TOLD, STARTED), None, 248),
        (TOLD, Finished("end_turn", Usage(123, 0, 0, 7)), 130),
        # Cut at a stop text: nothing but the output is known at its end.
        (TOLD, Finished("stop_sequence", Usage(output_tokens=1), "x"), 124),
    ],
)
async def test_every_turn_is_charged(
    events: tuple[Event, ...],
    finished: Finished | None,
    tokens: int,
    autojump_clock: MockClock,
) -> None:
    watch = TurnWatch(TURN, "conv_1")
    watch.told(events, ())
    facts = watch.facts(finished, None, request="r", dialect="chat", key="k")
    assert facts.tokens == tokens
    quotas, now = Quotas(), trio.current_time()
    quotas.admit("k", ApiKey(hash="0" * 64, tokens_per_minute=1000), now)
    KeyCosts(quotas).turn_ended(facts)
    (left,) = quotas.left("k", now)
    assert left.remaining == 1000 - tokens
