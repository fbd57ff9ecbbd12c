"""Workers that serve a client's functions, with the real CLI against a loopback model."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from maxd.workers.binding import safe_id
from maxd.workers.faults import ChoiceNotMade, ProtocolBroken, SchemaNotMet, WorkerDied
from maxd.workers.functions import PREFIX
from maxd.workers.loopback import LoopbackModel, Reply
from maxd.workers.loopback.reply import TextBlock, ToolUseBlock
from maxd.workers.profiles import CHAT
from maxd.workers.turn import (
    CallDelta,
    CallStarted,
    Document,
    Event,
    Finished,
    Function,
    Image,
    Message,
    Text,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolChoice,
    ToolResult,
    ToolStarted,
    Turn,
)
from tests.workers.rig import RealRig, start_worker, turn

SCHEMA = json.dumps({"type": "object", "properties": {"city": {"type": "string"}}})
WEATHER = Function("get.weather", "Tells the weather.", SCHEMA)
CLOCK = Function("clock", "Tells the time.", '{"type":"object"}')
ASKED = replace(turn(("user", "How is it?")), functions=(WEATHER, CLOCK))


def call(name: str, **arguments: object) -> ToolUseBlock:
    return ToolUseBlock(PREFIX + name, arguments)


def calling(*blocks: ToolUseBlock | TextBlock) -> Reply:
    return Reply(blocks=blocks)


def calls_of(events: Sequence[Event]) -> list[ToolCall]:
    """The calls among the events, as a client puts them together."""
    calls: list[ToolCall] = []
    for event in events:
        if isinstance(event, CallStarted):
            calls.append(ToolCall(event.id, event.name, ""))
        elif isinstance(event, CallDelta):
            calls[-1] = replace(calls[-1], arguments=calls[-1].arguments + event.arguments)
    return calls


def said(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def stop_of(events: Sequence[Event]) -> str:
    assert isinstance(events[-1], Finished)
    return events[-1].stop_reason


def after(asked: Turn, calls: Sequence[ToolCall], *results: ToolResult, text: str = "") -> Turn:
    """The client's next request."""
    spoken = [Text(text)] if text else []
    answer = Message("assistant", (*spoken, *calls))
    return replace(asked, messages=(*asked.messages, answer, Message("user", results)))


def upstream(model: LoopbackModel) -> list[tuple[str, list[Any]]]:
    """The messages of the last request, without what the CLI adds."""
    messages = model.requests[-1].body["messages"]
    shown = []
    for message in messages:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        kept = [
            {key: value for key, value in block.items() if key != "cache_control"}
            for block in blocks
            if not block.get("text", "").startswith("<system-reminder>")
        ]
        if message["role"] != "system" and kept:
            shown.append((message["role"], kept))
    return shown


def model_of(rig: RealRig) -> LoopbackModel:
    assert rig.model is not None
    return rig.model


async def test_calls_are_told_and_answered_by_the_same_process(real_rig: RealRig) -> None:
    rig = real_rig
    rig.replies = [
        calling(TextBlock("Let me see."), call("get_weather", city="Rome"), call("clock")),
        Reply(text="It rains at noon."),
    ]
    async with trio.open_nursery() as nursery:
        life = await start_worker(nursery, rig.launch(CHAT))
        first = await life.answer(ASKED)
        weather, clock = calls_of(first)
        assert said(first) == "Let me see."
        assert (weather.name, json.loads(weather.arguments)) == ("get.weather", {"city": "Rome"})
        assert (clock.name, clock.arguments) == ("clock", "{}")
        assert stop_of(first) == "tool_use"
        assert life.worker.pending == (weather.id, clock.id)
        assert not any(isinstance(event, ToolStarted) for event in first)
        asked = after(
            ASKED,
            (weather, clock),
            ToolResult(clock.id, (Text("noon"),)),
            ToolResult(weather.id, (Text("broken"),), is_error=True),
            text="Let me see.",
        )
        second = await life.answer(asked, known=2)
        assert (said(second), stop_of(second)) == ("It rains at noon.", "end_turn")
        tools = {tool["name"]: tool for tool in model_of(rig).requests[-1].body["tools"]}
        assert set(tools) == {PREFIX + "get_weather", PREFIX + "clock"}
        assert tools[PREFIX + "get_weather"]["input_schema"]["properties"] == {
            "city": {"type": "string"}
        }
        _, (role, blocks), (_, results) = upstream(model_of(rig))
        assert role == "assistant"
        assert [block.get("name") for block in blocks] == [
            None,
            PREFIX + "get_weather",
            PREFIX + "clock",
        ]
        by_id = {block["tool_use_id"]: block for block in results}
        assert by_id[blocks[1]["id"]]["is_error"] is True
        assert "broken" in json.dumps(by_id[blocks[1]["id"]])
        assert "noon" in json.dumps(by_id[blocks[2]["id"]])
        assert model_of(rig).count == 2
        life.worker.kill_nowait()


async def test_ten_rounds_of_calls_and_tokens_counted_once(real_rig: RealRig) -> None:
    rig = real_rig
    rig.replies = [calling(call("clock", n=n)) for n in range(10)] + [Reply(text="done")]
    asked, events, tokens = ASKED, [], 0
    async with trio.open_nursery() as nursery:
        life = await start_worker(nursery, rig.launch(CHAT))
        for number in range(11):
            events = await life.answer(asked, known=len(asked.messages) - 1 if number else 0)
            assert isinstance(events[-1], Finished)
            tokens += events[-1].usage.output_tokens
            calls = calls_of(events)
            if number < 10:
                asked = after(asked, calls, ToolResult(calls[0].id, (Text(f"r{number}"),)))
        life.worker.kill_nowait()
    assert said(events) == "done"
    assert model_of(rig).count == 11
    results = [blocks for role, blocks in upstream(model_of(rig)) if role == "user"][1:]
    assert [f"r{n}" in json.dumps(blocks) for n, blocks in enumerate(results)] == [True] * 10
    assert 0 < tokens < 11 * 50


async def test_large_results_and_images_reach_the_model_whole(real_rig: RealRig) -> None:
    rig = real_rig
    rig.replies = [calling(call("clock")), Reply(text="done")]
    async with trio.open_nursery() as nursery:
        life = await start_worker(nursery, rig.launch(CHAT))
        (clock,) = calls_of(await life.answer(ASKED))
        long = "0123456789" * 20_000
        parts = (Text(long), Image("image/png", PIXEL))
        await life.answer(after(ASKED, (clock,), ToolResult(clock.id, parts)), known=2)
        life.worker.kill_nowait()
    (result,) = upstream(model_of(rig))[-1][1]
    kinds = [block["type"] for block in result["content"]]
    assert kinds[:2] == ["text", "image"]
    assert result["content"][0]["text"] == long


PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9"
    "awAAAABJRU5ErkJggg=="
)


async def test_a_history_of_calls_is_imported_in_its_places(real_rig: RealRig) -> None:
    rig = real_rig
    history = (
        Message("user", (Text("a"),)),
        Message("assistant", (Text("b"), ToolCall("x.1", "clock", '{"n": 1}'))),
        Message("user", (ToolResult("x.1", (Text("noon"), Image("image/png", PIXEL))),)),
        Message("assistant", (ToolCall("x2", "gone", "no json"),)),
        Message("user", (ToolResult("x2", (Text("lost"),), is_error=True),)),
        Message("assistant", (Text("c"),)),
        Message("user", (Document("text/plain", "words", "n.txt"), Text("d"))),
        Message("assistant", (ToolCall("x3", "get.weather", "{}"),)),
        Message("user", (ToolResult("x3", (Text("rain"),)),)),
    )
    async with trio.open_nursery() as nursery:
        life = await start_worker(nursery, rig.launch(CHAT))
        events = await life.answer(replace(ASKED, messages=history))
        life.worker.kill_nowait()
    assert said(events) == "answer"
    assert model_of(rig).count == 1
    roles = [role for role, _ in upstream(model_of(rig))]
    assert roles == ["user", "assistant"] * 4 + ["user"]
    blocks = [block for _, blocks in upstream(model_of(rig)) for block in blocks]
    assert [block["type"] for block in blocks] == [
        *("text", "text", "tool_use", "tool_result", "tool_use", "tool_result", "text"),
        *("document", "text", "tool_use", "tool_result"),
    ]
    uses = [block for block in blocks if block["type"] == "tool_use"]
    assert [(use["id"], use["name"], use["input"]) for use in uses] == [
        (safe_id("x.1"), PREFIX + "clock", {"n": 1}),
        ("x2", PREFIX + "gone", {"arguments": "no json"}),
        ("x3", PREFIX + "get_weather", {}),
    ]
    names = {tool["name"] for tool in model_of(rig).requests[-1].body["tools"]}
    assert names == {PREFIX + "clock", PREFIX + "get_weather", PREFIX + "gone"}


async def test_what_was_said_meanwhile_is_told_behind_the_results(real_rig: RealRig) -> None:
    rig = real_rig
    rig.replies = [calling(call("clock")), Reply(text="done"), Reply(text="again")]
    async with trio.open_nursery() as nursery:
        life = await start_worker(nursery, rig.launch(CHAT))
        (clock,) = calls_of(await life.answer(ASKED))
        asked = after(ASKED, (clock,), ToolResult(clock.id, (Text("noon"),)))
        asked = replace(asked, messages=(*asked.messages, Message("user", (Text("/hurry @up"),))))
        events = await life.answer(asked, known=2)
        assert said(events) == "done"
        assert "/hurry @up" in json.dumps(model_of(rig).requests[-1].body["messages"])
        assert model_of(rig).count == 2
        # And it holds the conversation as before.
        following = Message("assistant", (Text("done"),)), Message("user", (Text("more"),))
        asked = replace(asked, messages=(*asked.messages, *following))
        assert said(await life.answer(asked, known=len(asked.messages) - 1)) == "again"
        life.worker.kill_nowait()


async def test_no_function_is_called_where_none_may_be(real_rig: RealRig) -> None:
    rig = real_rig
    rig.replies = [calling(call("clock")), Reply(text="In words then.")]
    async with trio.open_nursery() as nursery:
        life = await start_worker(nursery, rig.launch(CHAT))
        events = await life.answer(replace(ASKED, tool_choice=ToolChoice("none")))
        life.worker.kill_nowait()
    assert (said(events), calls_of(events), stop_of(events)) == ("In words then.", [], "end_turn")


async def test_one_call_at_a_time_where_that_is_wanted(real_rig: RealRig) -> None:
    rig = real_rig
    rig.replies = [calling(call("clock"), call("get_weather")), Reply(text="done")]
    async with trio.open_nursery() as nursery:
        life = await start_worker(nursery, rig.launch(CHAT))
        asked = replace(ASKED, parallel_calls=False)
        (clock,) = calls_of(await life.answer(asked))
        asked = after(asked, (clock,), ToolResult(clock.id, (Text("noon"),)))
        assert said(await life.answer(asked, known=2)) == "done"
        life.worker.kill_nowait()
    assert [block.get("is_error", False) for block in upstream(model_of(rig))[-1][1]] in (
        [False, True],
        [True, False],
    )


async def test_a_model_that_must_call_is_asked_once_more(real_rig: RealRig) -> None:
    rig = real_rig
    rig.replies = [Reply(text="In words."), calling(TextBlock("Well."), call("clock"))]
    asked = replace(ASKED, tool_choice=ToolChoice("required", ("clock",)))
    async with trio.open_nursery() as nursery:
        life = await start_worker(nursery, rig.launch(CHAT))
        events = await life.answer(asked)
        life.worker.kill_nowait()
    assert (said(events), stop_of(events)) == ("Well.", "tool_use")
    assert [each.name for each in calls_of(events)] == ["clock"]
    assert "must call the function clock" in json.dumps(model_of(rig).requests[0].body["system"])


async def test_a_model_that_never_calls_is_an_error(real_rig: RealRig) -> None:
    real_rig.replies = [Reply(text="In words.")]
    async with trio.open_nursery() as nursery:
        life = await start_worker(nursery, real_rig.launch(CHAT))
        with pytest.raises(ChoiceNotMade):
            await life.answer(replace(ASKED, tool_choice=ToolChoice("required")))
        await life.wait_ended()
    assert model_of(real_rig).count == 2


SHAPE = '{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}'


async def test_an_answer_of_a_schema_is_its_json_and_nothing_else(real_rig: RealRig) -> None:
    rig = real_rig
    rig.replies = [
        calling(TextBlock("Here:"), ToolUseBlock("StructuredOutput", {"b": 1})),
        calling(ToolUseBlock("StructuredOutput", {"a": 1})),
        calling(ToolUseBlock("StructuredOutput", {"a": 2})),
    ]
    asked = replace(turn(("user", "go")), schema=SHAPE)
    async with trio.open_nursery() as nursery:
        life = await start_worker(nursery, rig.launch(CHAT))
        events = await life.answer(asked)
        assert (json.loads(said(events)), stop_of(events)) == ({"a": 1}, "end_turn")
        following = Message("assistant", (Text(said(events)),)), Message("user", (Text("more"),))
        asked = replace(asked, messages=(*asked.messages, *following))
        events = await life.answer(asked, known=2)
        assert json.loads(said(events)) == {"a": 2}
        life.worker.kill_nowait()
    assert model_of(rig).count == 3


async def test_functions_and_a_schema_work_together(real_rig: RealRig) -> None:
    rig = real_rig
    rig.replies = [calling(call("clock")), calling(ToolUseBlock("StructuredOutput", {"a": 1}))]
    asked = replace(ASKED, schema=SHAPE)
    async with trio.open_nursery() as nursery:
        life = await start_worker(nursery, rig.launch(CHAT))
        (clock,) = calls_of(await life.answer(asked))
        asked = after(asked, (clock,), ToolResult(clock.id, (Text("noon"),)))
        assert json.loads(said(await life.answer(asked, known=2))) == {"a": 1}
        life.worker.kill_nowait()


async def test_an_answer_of_no_schema_is_an_error(real_rig: RealRig) -> None:
    real_rig.replies = [Reply(text="No.")]
    async with trio.open_nursery() as nursery:
        life = await start_worker(nursery, real_rig.launch(CHAT))
        with pytest.raises(SchemaNotMet):
            await life.answer(replace(turn(("user", "go")), schema=SHAPE))
        await life.wait_ended()


async def test_effort_and_thinking(real_rig: RealRig) -> None:
    rig = real_rig
    rig.replies = [Reply(thinking="Hm.", text="one"), Reply(text="two")]
    asked = replace(turn(("user", "go")), effort="low")
    async with trio.open_nursery() as nursery:
        # A model that knows efforts.
        launch = replace(rig.launch(CHAT), model="sonnet")
        life = await start_worker(nursery, launch)
        events = await life.answer(asked)
        assert [event.text for event in events if isinstance(event, ThinkingDelta)] == ["Hm."]
        following = Message("assistant", (Text("one"),)), Message("user", (Text("more"),))
        asked = replace(asked, messages=(*asked.messages, *following), effort="xhigh")
        await life.answer(asked, known=2)
        life.worker.kill_nowait()
    efforts = [request.body["output_config"]["effort"] for request in model_of(rig).requests]
    assert efforts == ["low", "xhigh"]


async def test_a_round_cut_within_a_call_is_no_call(real_rig: RealRig) -> None:
    rig = real_rig
    rig.environment["CLAUDE_CODE_MAX_RETRIES"] = "1"
    rig.replies = [Reply(tool=PREFIX + "clock", pace=0.2, cut=1), Reply(text="done")]
    async with trio.open_nursery() as nursery:
        life = await start_worker(nursery, rig.launch(CHAT))
        events = await life.answer(ASKED)
        assert stop_of(events) == "end_turn"
        assert life.worker.pending == ()
        life.worker.kill_nowait()


async def test_a_parked_worker_that_goes_on_by_itself_ends(real_rig: RealRig) -> None:
    rig = real_rig
    # The user's own limit on how long a tool may take.
    rig.environment["MCP_TOOL_TIMEOUT"] = "1500"
    rig.replies = [calling(call("clock")), Reply(text="Without it.")]
    async with trio.open_nursery() as nursery:
        life = await start_worker(nursery, rig.launch(CHAT))
        assert stop_of(await life.answer(ASKED)) == "tool_use"
        with trio.fail_after(20):
            ended = await life.wait_ended()
    assert isinstance(ended.fault, ProtocolBroken | WorkerDied)


async def test_a_parked_worker_that_is_ended_asks_the_model_nothing_more(
    real_rig: RealRig,
) -> None:
    rig = real_rig
    rig.replies = [calling(call("clock")), Reply(text="Without it.")]
    async with trio.open_nursery() as nursery:
        life = await start_worker(nursery, rig.launch(CHAT))
        assert stop_of(await life.answer(ASKED)) == "tool_use"
        life.worker.kill_nowait()
        ended = await life.wait_ended()
    assert ended.fault is None
    assert model_of(rig).count == 1
