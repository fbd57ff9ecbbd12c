"""The client's own functions, through the official SDK, the real CLI and the loopback model."""

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.end_to_end.running import DaemonProcess, LoopbackProcess, directive

CHAT = "claude-sonnet-4:chat"
AGENT = "claude-sonnet-4"
MODEL_NAME = "mcp__client__"


def function(name: str, *parameters: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {each: {"type": "string"} for each in parameters},
        "required": list(parameters),
    }
    return {
        "type": "function",
        "function": {"name": name, "description": f"Does {name}.", "parameters": schema},
    }


TOOLS: Any = [function("get_weather", "city"), function("now"), function("fs.read:v2", "path")]
Functions = dict[str, Callable[..., object]]


def called(*calls: tuple[str, dict[str, Any]], text: str | None = None) -> dict[str, Any]:
    """A reply of the model's that calls functions."""
    blocks: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    for name, arguments in calls:
        block = {"type": "tool_use", "name": MODEL_NAME + name, "input": arguments}
        blocks.append(block)
    return {"blocks": blocks}


class Loop:
    """The tool loop as every client has it."""

    def __init__(self, client: openai.OpenAI, model: str = CHAT, **fields: Any) -> None:
        self.client = client
        self.model = model
        self.fields = {"tools": TOOLS, **fields}
        self.messages: list[Any] = []
        self.finishes: list[str | None] = []

    def run(self, prompt: str, functions: Functions) -> str | None:
        """Ask, call and answer until the model is done; its last text."""
        self.messages.append({"role": "user", "content": prompt})
        while True:
            completion = self.client.chat.completions.create(
                model=self.model, messages=self.messages, **self.fields
            )
            choice = completion.choices[0]
            self.messages.append(choice.message.model_dump(exclude_none=True))
            self.finishes.append(choice.finish_reason)
            if choice.finish_reason != "tool_calls":
                text: str | None = choice.message.content
                return text
            for call in choice.message.tool_calls or ():
                assert call.type == "function"
                arguments = json.loads(call.function.arguments)
                told = functions[call.function.name](**arguments)
                self.messages.append({"role": "tool", "tool_call_id": call.id, "content": told})


def told_upstream(request: dict[str, Any]) -> list[tuple[str, Any, str]]:
    """The calls and results that the model was given, as (name, arguments, result)."""
    calls: dict[str, tuple[str, Any]] = {}
    results: dict[str, str] = {}
    for message in request["body"]["messages"]:
        for block in message["content"] if isinstance(message["content"], list) else ():
            if block["type"] == "tool_use":
                assert message["role"] == "assistant"
                assert block["id"] not in calls
                calls[block["id"]] = (block["name"].removeprefix(MODEL_NAME), block["input"])
            elif block["type"] == "tool_result":
                assert message["role"] == "user"
                assert block["tool_use_id"] not in results
                content = block.get("content") or ""
                if not isinstance(content, str):
                    content = "".join(each["text"] for each in content)
                results[block["tool_use_id"]] = content
    assert calls.keys() == results.keys(), "every call has its one result"
    return [(*call, results[model_id]) for model_id, call in calls.items()]


def weather(city: str) -> str:
    return f"It rains in {city}."


def only_worker(daemon: DaemonProcess, turns: int) -> None:
    """Every one of the last turns was the same worker's, the first of them alone not continued."""
    entries = [daemon.wait_log("turn") for _ in range(turns)]
    assert len({entry["worker"] for entry in entries}) == 1, entries
    assert [entry["continued"] for entry in entries] == [False] + [True] * (turns - 1)


@pytest.fixture
def daemon(shared_daemon: DaemonProcess) -> DaemonProcess:
    """The daemon, whose log has been read to its end."""
    shared_daemon.drop_log()
    return shared_daemon


@pytest.mark.parametrize("model_id", [CHAT, AGENT])
def test_one_call(
    client: openai.OpenAI, model: LoopbackProcess, daemon: DaemonProcess, model_id: str
) -> None:
    prompt = directive(
        replies=[called(("get_weather", {"city": "Paris"}), text="Let me see."), {"text": "Rain."}]
    )
    loop = Loop(client, model_id)
    assert loop.run(prompt, {"get_weather": weather}) == "Rain."
    assert loop.finishes == ["tool_calls", "stop"]
    assert loop.messages[1]["content"] == "Let me see."
    first, second = model.requests()
    assert told_upstream(second) == [("get_weather", {"city": "Paris"}, "It rains in Paris.")]
    offered = {tool["name"]: tool for tool in first["body"]["tools"]}
    assert set(offered) == {MODEL_NAME + name for name in ("get_weather", "now", "fs_read_v2")}
    schema = offered[MODEL_NAME + "get_weather"]["input_schema"]
    assert schema == TOOLS[0]["function"]["parameters"]
    only_worker(daemon, 2)


def test_the_whole_loop_is_one_process(
    client: openai.OpenAI, model: LoopbackProcess, daemon: DaemonProcess
) -> None:
    """One call, four side by side, one without arguments, a result of 200 kB, one that failed, and
    ten rounds, in one conversation."""
    long = "".join(f"{number:07d}\n" for number in range(25_000))
    rounds = [
        called(("get_weather", {"city": "Paris"})),
        called(*[("get_weather", {"city": city}) for city in ("Rome", "Oslo", "Bonn", "Bern")]),
        called(("now", {})),
        called(("fs_read_v2", {"path": "/long"})),
        called(("fs_read_v2", {"path": "/missing"})),
        *[called(("get_weather", {"city": f"City {n}"}), text=f"Round {n}.") for n in range(10)],
    ]
    expected = [
        ("get_weather", {"city": city}, weather(city))
        for city in ("Paris", "Rome", "Oslo", "Bonn", "Bern")
    ]
    expected += [
        ("now", {}, "noon"),
        ("fs_read_v2", {"path": "/long"}, long),
        ("fs_read_v2", {"path": "/missing"}, "Error: there is no /missing"),
        *[("get_weather", {"city": f"City {n}"}, weather(f"City {n}")) for n in range(10)],
    ]
    functions: Functions = {
        "get_weather": weather,
        "now": lambda: "noon",
        "fs.read:v2": lambda path: long if path == "/long" else f"Error: there is no {path}",
    }
    loop = Loop(client)
    assert loop.run(directive(replies=[*rounds, {"text": "Done."}]), functions) == "Done."
    assert loop.finishes == ["tool_calls"] * len(rounds) + ["stop"]
    requests = model.requests()
    assert len(requests) == len(rounds) + 1
    assert told_upstream(requests[-1]) == expected
    assert len(loop.run("And now?", functions) or "") > 0
    only_worker(daemon, len(rounds) + 2)


def test_calls_as_a_stream(client: openai.OpenAI, model: LoopbackProcess) -> None:
    prompt = directive(
        replies=[
            called(("get_weather", {"city": "Paris"}), ("now", {}), text="Let me see."),
            {"text": "Rain at noon."},
        ]
    )
    messages: list[Any] = [{"role": "user", "content": prompt}]
    with client.chat.completions.stream(model=CHAT, messages=messages, tools=TOOLS) as stream:
        events = list(stream)
        message = stream.get_final_completion().choices[0].message
    assert [event.content for event in events if event.type == "content.done"] == ["Let me see."]
    calls = message.tool_calls or []
    assert [(c.function.name, json.loads(c.function.arguments)) for c in calls] == [
        ("get_weather", {"city": "Paris"}),
        ("now", {}),
    ]
    assert all(c.id.startswith("call") and len(c.id) == 28 and c.id.isalnum() for c in calls)
    messages.append(message.model_dump(exclude_none=True))
    # In the other order, and as parts.
    for call, told in reversed([*zip(calls, ("rain", "noon"), strict=True)]):
        parts = [{"type": "text", "text": told}]
        messages.append({"role": "tool", "tool_call_id": call.id, "content": parts})
    reply = client.chat.completions.create(model=CHAT, messages=messages, tools=TOOLS)
    assert reply.choices[0].message.content == "Rain at noon."
    assert sorted(told_upstream(model.requests()[-1])) == [
        ("get_weather", {"city": "Paris"}, "rain"),
        ("now", {}, "noon"),
    ]


def test_a_history_with_foreign_calls_is_imported(
    client: openai.OpenAI, model: LoopbackProcess
) -> None:
    """Ids that the API would refuse, arguments that are no JSON, results that are missing or that
    nobody asked for, files."""

    def call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
        return {
            "id": call_id,
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }

    history: list[Any] = [
        {"role": "user", "content": "one"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                call("functions.get_weather:0", "get_weather", '{\n "city": "Rome"\n}'),
                call("b!", "gone_function", '{"broken": '),
            ],
        },
        {"role": "tool", "tool_call_id": "functions.get_weather:0", "content": "rain"},
        {"role": "tool", "tool_call_id": "nobody", "content": "lost"},
        {"role": "assistant", "content": "two"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "three"},
                {
                    "type": "file",
                    "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,aGVsbG8="},
                },
            ],
        },
    ]
    reply = client.chat.completions.create(model=CHAT, messages=history, tools=TOOLS)
    assert reply.choices[0].finish_reason == "stop"
    (request,) = model.requests()
    assert told_upstream(request) == [
        ("get_weather", {"city": "Rome"}, "rain"),
        ("gone_function", {"INVALID_JSON": '{"broken": '}, "No result was given."),
    ]
    blocks = [m for m in request["body"]["messages"] if m["role"] == "user"][-1]["content"]
    (document,) = [block for block in blocks if block["type"] == "document"]
    assert document["source"] == {"type": "text", "media_type": "text/plain", "data": "hello"}


PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgAAIAAAUAAeImBZsA"
    "AAAASUVORK5CYII="
)


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"type": "image_url", "image_url": {"url": PNG}}, "image"),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0xLjQK"}},
         "document"),
    ],
)  # fmt: skip
def test_a_result_with_an_image_or_a_file(
    client: openai.OpenAI, model: LoopbackProcess, part: dict[str, Any], kind: str
) -> None:
    prompt = directive(replies=[called(("now", {})), {"text": "I see."}])
    told: Any = [{"type": "text", "text": "Look:"}, part]
    assert Loop(client).run(prompt, {"now": lambda: told}) == "I see."
    (result,) = [
        block
        for message in model.requests()[-1]["body"]["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
        if block["type"] == "tool_result"
    ]
    assert [block["type"] for block in result["content"]] == ["text", kind]


class Answer(BaseModel):
    number: int
    words: list[str]


@pytest.mark.parametrize("model_id", [CHAT, AGENT])
def test_parse(client: openai.OpenAI, model: LoopbackProcess, model_id: str) -> None:
    answer = {"number": 42, "words": ["a", "b"]}
    completion = client.chat.completions.parse(
        model=model_id,
        messages=[{"role": "user", "content": directive(tool="StructuredOutput", input=answer)}],
        response_format=Answer,
    )
    assert completion.choices[0].message.parsed == Answer(number=42, words=["a", "b"])
    (tool,) = [
        tool for tool in model.requests()[0]["body"]["tools"] if tool["name"] == "StructuredOutput"
    ]
    assert set(tool["input_schema"]["properties"]) == {"number", "words"}


def test_schemas_as_libraries_write_them(client: openai.OpenAI, model: LoopbackProcess) -> None:
    """Of zod, pydantic and OpenAPI: the CLI by itself drops such functions without a word, and
    gives no answer of such a schema."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "pair": {"type": "array", "items": [{"type": "string"}, {"type": "number"}]},
            "code": {"type": "string", "pattern": r"^[\w\-]+\-\d$", "example": "a-1"},
            "size": {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
            "kind": {"oneOf": [{"const": "a"}], "discriminator": {"propertyName": "kind"}},
            "when": {"type": "string", "format": "date-time", "x-order": 1},
        },
        "required": ["code", "code"],
    }
    answer = {"pair": ["x", 1], "code": "a-1", "size": 1, "kind": "a", "when": "now"}
    prompt = directive(tool="StructuredOutput", input=answer)
    form: Any = {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}
    completion = client.chat.completions.create(
        model=CHAT,
        messages=[{"role": "user", "content": prompt}],
        response_format=form,
    )
    assert json.loads(completion.choices[0].message.content or "") == answer
    model.forget()
    tool: Any = {"type": "function", "function": {"name": "it", "parameters": schema}}
    client.chat.completions.create(
        model=CHAT, messages=[{"role": "user", "content": "hi"}], tools=[tool]
    )
    assert [each["name"] for each in model.requests()[0]["body"]["tools"]] == [MODEL_NAME + "it"]


def test_an_answer_is_cut_at_a_stop_text_and_after_so_many_tokens(client: openai.OpenAI) -> None:
    def ask(**fields: Any) -> Any:
        prompt = directive(words=50, pace=0.01)
        completion = client.chat.completions.create(
            model=CHAT, messages=[{"role": "user", "content": prompt}], **fields
        )
        return completion.choices[0].message.content, completion.choices[0].finish_reason

    assert ask(stop=["word4", "nothing"]) == ("word1 word2 word3 ", "stop")
    text, finish = ask(max_tokens=10)
    assert finish == "length"
    assert text == "word1 word2 word3 word4 word5 word6 word"[:40]


@pytest.mark.parametrize("tools", [[function("get_time")], []], ids=["others", "none"])
def test_with_other_functions_the_history_is_given_to_another_worker(
    client: openai.OpenAI, model: LoopbackProcess, tools: list[Any]
) -> None:
    loop = Loop(client, tools=[function("get_weather", "city")])
    replies = [called(("get_weather", {"city": "Rome"})), {"text": "Rain."}]
    assert loop.run(directive(replies=replies), {"get_weather": weather}) == "Rain."
    loop.fields = {"tools": tools} if tools else {}
    assert loop.run(f"And now? {directive(text='Still rain.')}", {}) == "Still rain."
    assert len(model.requests()) == 3
    last = model.requests()[-1]
    assert told_upstream(last) == [("get_weather", {"city": "Rome"}, "It rains in Rome.")]
    names = {tool["name"].removeprefix(MODEL_NAME) for tool in last["body"]["tools"]}
    assert names == {"get_weather", *(tool["function"]["name"] for tool in tools)}
