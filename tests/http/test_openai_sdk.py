"""The routes as OpenAI's own SDK sees them: its typed objects, helpers and exceptions."""

import json
from typing import TYPE_CHECKING, Any

import openai
import pytest
from pydantic import BaseModel

from maxd.daemon.settings import Server
from maxd.workers.faults import (
    BackendUnavailable,
    ContextTooLong,
    Fault,
    Overloaded,
    UpstreamFault,
    UsageLimit,
)
from maxd.workers.turn import (
    CallDelta,
    CallStarted,
    Event,
    Finished,
    RoundEnded,
    RoundStarted,
    TextDelta,
    ThinkingDelta,
    ToolChoice,
    Usage,
)
from tests.http.sdk import Served, served

if TYPE_CHECKING:
    from openai.types.chat import ParsedChatCompletion

MODEL = "claude-sonnet-4:chat"
USAGE = Usage(input_tokens=3, cache_read_tokens=100, output_tokens=7, thinking_tokens=5)
STARTED = RoundStarted("m")
MESSAGES: Any = [{"role": "user", "content": "hi"}]
SAID: list[Event] = [STARTED, ThinkingDelta("hm"), TextDelta("Hel"), TextDelta("lo"),
                     RoundEnded("end_turn"), Finished("end_turn", USAGE)]  # fmt: skip
CALLED: list[Event] = [
    STARTED,
    TextDelta("Let me look."),
    CallStarted("call1", "GetWeather"),
    CallDelta('{"city":'),
    CallDelta('"Paris"}'),
    CallStarted("call2", "GetWeather"),
    CallDelta('{"city":"Rome"}'),
    RoundEnded("tool_use"),
    Finished("tool_use", USAGE),
]


class GetWeather(BaseModel):
    """Tells the weather."""

    city: str


class Answer(BaseModel):
    number: int
    words: list[str]


TOOLS: Any = [openai.pydantic_function_tool(GetWeather)]


def text(words: str, reason: str = "end_turn") -> list[Event]:
    return [STARTED, TextDelta(words), RoundEnded(reason), Finished(reason, USAGE)]


def create(**fields: Any) -> Any:
    return lambda client: client.chat.completions.create(
        **{"model": MODEL, "messages": MESSAGES, **fields}
    )


async def test_calls_are_typed_objects() -> None:
    async with served() as front:
        front.answer = CALLED
        made = await front.ask(create(tools=TOOLS, tool_choice="required"))
        choice = made.choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content == "Let me look."
        assert [(c.id, c.type, c.function.name, c.function.arguments)
                for c in choice.message.tool_calls] == [
            ("call1", "function", "GetWeather", '{"city":"Paris"}'),
            ("call2", "function", "GetWeather", '{"city":"Rome"}'),
        ]  # fmt: skip
        (turn,) = front.turns
        assert turn.tool_choice == ToolChoice("required")
        assert json.loads(turn.functions[0].parameters) == TOOLS[0]["function"]["parameters"]


async def test_parse_makes_objects_of_calls_and_of_answers() -> None:
    def parse(**fields: Any) -> Any:
        return lambda client: client.chat.completions.parse(
            model=MODEL, messages=MESSAGES, **fields
        )

    async with served() as front:
        front.answer = CALLED
        made: ParsedChatCompletion[Any] = await front.ask(parse(tools=TOOLS))
        calls = made.choices[0].message.tool_calls
        assert calls is not None
        assert [call.function.parsed_arguments for call in calls] == [
            GetWeather(city="Paris"),
            GetWeather(city="Rome"),
        ]
        front.answer = text('{"number": 42, "words": ["a"]}')
        made = await front.ask(parse(response_format=Answer))
        assert made.choices[0].message.parsed == Answer(number=42, words=["a"])
        schema = json.loads(front.turns[-1].schema or "")
        assert set(schema["properties"]) == {"number", "words"}
        front.answer = text('{"number": 4', "max_tokens")
        with pytest.raises(openai.LengthFinishReasonError):
            await front.ask(parse(response_format=Answer))
        front.answer = text("I cannot.", "refusal")
        with pytest.raises(openai.ContentFilterFinishReasonError):
            await front.ask(parse(response_format=Answer))


async def test_the_streaming_helper() -> None:
    def stream(client: openai.OpenAI, **fields: Any) -> tuple[list[Any], Any]:
        with client.chat.completions.stream(
            model=MODEL, messages=MESSAGES, stream_options={"include_usage": True}, **fields
        ) as stream:
            events = list(stream)
            return events, stream.get_final_completion()

    async with served() as front:
        front.answer = CALLED
        events, final = await front.ask(lambda client: stream(client, tools=TOOLS))
        done = [e for e in events if e.type == "tool_calls.function.arguments.done"]
        assert [(e.index, e.name, e.parsed_arguments) for e in done] == [
            (0, "GetWeather", GetWeather(city="Paris")),
            (1, "GetWeather", GetWeather(city="Rome")),
        ]
        assert [e.content for e in events if e.type == "content.done"] == ["Let me look."]
        assert final.choices[0].finish_reason == "tool_calls"
        assert final.usage is not None
        assert final.usage.completion_tokens_details.reasoning_tokens == 5
        assert final.usage.prompt_tokens_details.cached_tokens == 100
        front.answer = text('{"number": 42, "words": []}')
        events, final = await front.ask(lambda client: stream(client, response_format=Answer))
        assert [e.parsed for e in events if e.type == "content.done"] == [
            Answer(number=42, words=[])
        ]


async def test_a_stream_of_calls_ends_with_one_chunk_of_usage() -> None:
    async with served() as front:
        front.answer = CALLED
        chunks = await front.ask(
            lambda client: list(
                create(stream=True, tools=TOOLS, stream_options={"include_usage": True})(client)
            )
        )
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "tool_calls"
        assert [bool(c.usage) for c in chunks].count(True) == 1
        assert chunks[-1].choices == []
        assert chunks[-1].usage.total_tokens == 110


@pytest.mark.parametrize(
    ("settings", "headers", "shown"),
    [
        (Server(), {}, True),
        (Server(show_thinking=("agent",)), {}, False),
        (Server(show_thinking=()), {"X-Maxd-Reasoning": "true"}, True),
        (Server(), {"X-Maxd-Reasoning": "false"}, False),
    ],
)
async def test_thinking(settings: Server, headers: dict[str, str], shown: bool) -> None:
    async with served(settings) as front:
        front.answer = SAID
        made = await front.ask(create(extra_headers=headers, reasoning_effort="high"))
        assert made.choices[0].message.content == "Hello"
        extra = made.choices[0].message.model_extra
        assert extra.get("reasoning_content") == ("hm" if shown else None)
        assert front.turns[-1].effort == "high"
        chunks = await front.ask(
            lambda client: list(create(extra_headers=headers, stream=True)(client))
        )
        thought = [c.choices[0].delta.model_extra.get("reasoning_content") for c in chunks]
        assert ("hm" in thought) is shown


async def refused(front: Served, **fields: Any) -> openai.BadRequestError:
    with pytest.raises(openai.BadRequestError) as caught:
        await front.ask(create(**fields))
    return caught.value


async def test_what_has_no_effect_is_named_or_in_strict_mode_refused() -> None:
    async with served() as front:
        front.answer = SAID
        reply = await front.ask(
            lambda client: client.chat.completions.with_raw_response.create(
                model=MODEL, messages=MESSAGES, temperature=0.5, max_tokens=50, seed=1, stop=["x"]
            )
        )
        assert reply.headers["x-ignored-params"] == "temperature, seed"
        assert (front.turns[-1].max_tokens, front.turns[-1].stop) == (50, ("x",))
        error = await refused(front, seed=1, extra_headers={"X-Maxd-Strict": "true"})
        assert (error.param, error.code) == ("seed", "unsupported_parameter")
        assert (await refused(front, extra_headers={"X-Maxd-Strict": "maybe"})).param is None
    async with served(Server(strict_fields=True)) as front:
        assert (await refused(front, temperature=1)).param == "temperature"
        assert (await refused(front, extra_body={"temprature": 1})).param == "temprature"
        front.answer = SAID
        await front.ask(create(temperature=1, extra_headers={"X-Maxd-Strict": "false"}))


@pytest.mark.parametrize(
    ("fault", "kind", "status"),
    [
        (ContextTooLong("prompt is too long"), openai.BadRequestError, 400),
        (UsageLimit("usage limit"), openai.RateLimitError, 429),
        (UpstreamFault("it failed"), openai.InternalServerError, 502),
        (BackendUnavailable("no CLI"), openai.InternalServerError, 503),
        (Overloaded("later"), openai.InternalServerError, 503),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_faults_are_the_sdks_exceptions(
    fault: Fault, kind: type[openai.APIStatusError], status: int, stream: bool
) -> None:
    async with served() as front:
        front.answer = fault
        with pytest.raises(kind) as caught:
            await front.ask(create(stream=stream))
        assert caught.value.status_code == status
        assert caught.value.code == fault.code


async def test_the_parameter_at_fault_is_named() -> None:
    async with served() as front:
        assert (await refused(front, n=2)).param == "n"
        bad: Any = [{"type": "function", "function": {"name": "a b"}}]
        assert (await refused(front, tools=bad)).param == "tools[0].function.name"
        assert (await refused(front, tool_choice="required")).param == "tool_choice"
        schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array"}}}
        assert (await refused(front, response_format=schema)).param == "response_format"
        remote: Any = [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}]}]  # fmt: skip
        error = await refused(front, messages=remote)
        assert error.param == "messages[0].content[0].image_url.url"
        assert "nothing is fetched" in error.message
        assert front.turns == []
