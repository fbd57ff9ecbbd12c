"""Turns whose answer is cut: the client has another reply than the worker, which is not kept."""

import pytest
import trio
from msgspec.structs import replace
from trio.testing import wait_all_tasks_blocked

from maxd.workers.turn import (
    CallDelta,
    CallStarted,
    Event,
    Finished,
    Function,
    Message,
    RoundEnded,
    RoundStarted,
    Text,
    TextDelta,
    ToolCall,
    ToolResult,
    Turn,
    Usage,
)
from tests.daemon.continuing_bench import Bench, read

QUESTION = Message("user", (Text("Count."),))
ASKED = Turn(profile="chat", model="sonnet", messages=(QUESTION,))
SAID: list[Event] = [RoundStarted("m"), TextDelta("One. ST"), TextDelta("OP two")]
END = Finished("end_turn", Usage(input_tokens=5, output_tokens=9))


async def told(bench: Bench, turn: Turn, *batches: list[Event]) -> list[Event]:
    """Run a turn whose worker says `batches`, the last of them perhaps without an end."""
    with bench.run(turn) as stream:
        worker = bench.grant()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def answer() -> None:
                for batch in batches:
                    await wait_all_tasks_blocked()
                    worker.outbox.send_nowait(batch)
                if isinstance(batches[-1][-1], Finished):
                    worker.outbox.close()

            events = await read(stream)
        assert await stream.next_events() == []
    return events


async def test_a_stop_text_ends_the_turn_before_the_model_does() -> None:
    bench = Bench()
    asked = replace(ASKED, stop=("STOP",))
    assert await told(bench, asked, SAID[:2], SAID[2:]) == [
        RoundStarted("m"),
        TextDelta("One. "),
        Finished("stop_sequence", Usage(output_tokens=2), "STOP"),
    ]
    assert bench.heads == [None], "the worker has said more than the client knows"


async def test_what_the_turn_cost_is_told_where_it_is_known() -> None:
    bench = Bench()
    events = await told(bench, replace(ASKED, stop=("STOP",)), [*SAID, RoundEnded("end_turn"), END])
    assert events[-1] == Finished("stop_sequence", END.usage, "STOP")
    assert bench.heads == [None]


@pytest.mark.parametrize("max_tokens", [1, 2, 100])
async def test_an_answer_of_too_many_tokens_is_cut(max_tokens: int) -> None:
    bench = Bench()
    events = await told(
        bench,
        replace(ASKED, max_tokens=max_tokens),
        [RoundStarted("m"), TextDelta("One. two")],
        [TextDelta("!"), RoundEnded("end_turn"), END],
    )
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    last = events[-1]
    assert isinstance(last, Finished)
    if max_tokens < 100:
        assert (text, last.stop_reason) == ("One. two"[: 4 * max_tokens], "max_tokens")
        assert bench.heads == [None]
    else:
        assert (text, last) == ("One. two!", END)
        assert None not in bench.heads


async def test_the_conversation_goes_on_from_the_reply_that_the_client_has() -> None:
    bench = Bench()
    asked = replace(ASKED, stop=("STOP",))
    await told(bench, asked, SAID)
    answer = Message("assistant", (Text("One."),))
    following = replace(asked, messages=(QUESTION, answer, QUESTION))
    with bench.run(following) as stream:
        first = stream.conversation_id
    (known,) = bench.turns.conversations.of("c")
    assert known.id == first
    assert known.session is None
    assert bench.pool.wanted[-1]["whole"], "no worker holds it: the history is imported"


async def test_calls_before_the_cut_are_the_clients_to_answer() -> None:
    bench = Bench()
    asked = replace(ASKED, max_tokens=4, functions=(Function("now", "", "{}"),))
    events = await told(
        bench,
        asked,
        [RoundStarted("m"), CallStarted("call1", "now"), CallDelta("{}")],
        [CallStarted("call2", "now"), CallDelta('{"zone":"Europe/Paris"}')],
    )
    assert events[1:3] == [CallStarted("call1", "now"), CallDelta("{}")]
    assert events[3:] == [Finished("max_tokens", Usage(output_tokens=2))]
    assert bench.heads == [None]
    results = [
        Message("assistant", (ToolCall("call1", "now", "{}"),)),
        Message("user", (ToolResult("call1", (Text("noon"),)),)),
    ]
    with bench.run(replace(asked, messages=(QUESTION, *results))):
        pass
    assert bench.pool.wanted[-1]["whole"]
