"""The Messages API through the official SDK, the real CLI and the loopback model."""

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anthropic
import httpx
import openai
import pytest
from anthropic.types import Message, TextBlock, ThinkingBlock, ToolUseBlock

from maxd.workers.loopback import environment
from tests.end_to_end.running import ADDED, DaemonProcess, LoopbackProcess, directive, real_cli

if TYPE_CHECKING:
    from anthropic.types import MessageParam, ToolParam, ToolResultBlockParam
    from openai.types.chat import ChatCompletionMessageParam

CHAT = "claude-sonnet-4:chat"
WEATHER: "ToolParam" = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
PNG = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
        "1f15c4890000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
    )
).decode()


@pytest.fixture(scope="module")
def daemon(
    _model: LoopbackProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DaemonProcess]:
    """One that serves nobody else: the spares of other tests' models would take the room of
    workers that have to go on here."""
    root = tmp_path_factory.mktemp("messages")
    with DaemonProcess(root, _model.base_url, {"MAXD_POOL_WARM": CHAT}) as daemon:
        yield daemon.wait_serving()
        assert daemon.stop() == 0


@pytest.fixture
def client(daemon: DaemonProcess) -> Iterator[openai.OpenAI]:
    with daemon.client() as client:
        yield client


@pytest.fixture
def claude(daemon: DaemonProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=daemon.base_url, api_key="not-needed", max_retries=0, timeout=60.0
    ) as client:
        yield client


def ask(text: str) -> "list[MessageParam]":
    return [{"role": "user", "content": text}]


def only_text(message: Message) -> str:
    (block,) = message.content
    assert isinstance(block, TextBlock)
    return block.text


def turns(daemon: DaemonProcess, conversation: str | None) -> list[dict[str, Any]]:
    """The log's entries of the turns of a conversation."""
    return [
        entry
        for entry in daemon.log
        if entry["event"] == "turn" and entry["conversation"] == conversation
    ]


def test_a_message(claude: anthropic.Anthropic, model: LoopbackProcess) -> None:
    prompt = directive(
        text="Fifteen.", usage={"input": 11, "output": 7, "cache_read": 5, "cache_creation": 3}
    )
    reply = claude.messages.with_raw_response.create(
        model=CHAT,
        max_tokens=1024,
        messages=ask(prompt),
        system="Be brief.",
        extra_body={"temperature": 0.5},
    )
    message = reply.parse()
    assert only_text(message) == "Fifteen."
    assert (message.type, message.role, message.model) == ("message", "assistant", CHAT)
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert message.usage.input_tokens == 11
    assert message.usage.cache_read_input_tokens == 5
    assert message.usage.cache_creation_input_tokens == 3
    assert message.usage.output_tokens == 7
    assert reply.headers["request-id"] == reply.headers["x-request-id"]
    assert reply.headers["x-ignored-params"] == "temperature"
    assert reply.headers["x-conversation-id"]
    assert model.requests()[0]["body"]["system"][-1]["text"] == "Be brief."


def test_a_stream(claude: anthropic.Anthropic) -> None:
    prompt = directive(
        blocks=[{"type": "thinking", "text": "hm hm"}, {"type": "text", "text": "Hello to you."}],
        usage={"input": 3, "output": 50},
    )
    with claude.messages.stream(
        model=CHAT, max_tokens=1024, messages=ask(prompt), thinking={"type": "adaptive"}
    ) as stream:
        events = list(stream)
        message = stream.get_final_message()
    thinking, text = message.content
    assert isinstance(thinking, ThinkingBlock)
    assert (thinking.thinking, bool(thinking.signature)) == ("hm hm", True)
    assert text.type == "text"
    assert text.text == "Hello to you."
    assert message.usage.input_tokens == 3
    assert message.usage.output_tokens == 50
    kinds = [event.type for event in events]
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert events[0].type == "message_start"
    assert events[0].message.usage.input_tokens == 3
    assert "signature" in kinds


def test_thinking_is_passed_back_unchanged(
    claude: anthropic.Anthropic, model: LoopbackProcess
) -> None:
    prompt = directive(blocks=[{"type": "thinking", "text": "hm"}, {"type": "text", "text": "a"}])
    history = ask(prompt)
    for _ in range(2):
        message = claude.messages.create(
            model=CHAT, max_tokens=9000, messages=history, thinking={"type": "adaptive"}
        )
        history += [
            {"role": "assistant", "content": message.content},
            {"role": "user", "content": prompt},
        ]
    first, second = model.requests()
    (said,) = (each for each in second["body"]["messages"] if each["role"] == "assistant")
    assert said["content"][0]["type"] == "thinking"
    assert said["content"][0]["signature"]
    assert len(first["body"]["messages"]) < len(second["body"]["messages"])


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_loop(
    claude: anthropic.Anthropic,
    daemon: DaemonProcess,
    model: LoopbackProcess,
    streamed: bool,
) -> None:
    name = f"mcp__client__{WEATHER['name']}"
    rounds = [
        {
            "blocks": [
                {"type": "text", "text": f"Round {number}."},
                {"type": "tool_use", "name": name, "input": {"city": f"City {number}"}},
                {"type": "tool_use", "name": name, "input": {}},
            ]
        }
        for number in range(3)
    ]
    history = ask(directive(replies=[*rounds, {"text": "Sunny everywhere."}]))
    asked = []
    conversation = None
    while True:
        if streamed:
            with claude.messages.stream(
                model=CHAT, max_tokens=1024, messages=history, tools=[WEATHER]
            ) as stream:
                message: Message = stream.get_final_message()
                conversation = stream.response.headers["x-conversation-id"]
        else:
            raw = claude.messages.with_raw_response.create(
                model=CHAT, max_tokens=1024, messages=history, tools=[WEATHER]
            )
            message, conversation = raw.parse(), raw.headers["x-conversation-id"]
        calls = [block for block in message.content if block.type == "tool_use"]
        if not calls:
            break
        assert message.stop_reason == "tool_use"
        asked += [call.input for call in calls]
        results: list[ToolResultBlockParam] = [
            {
                "type": "tool_result",
                "tool_use_id": call.id,
                "content": [{"type": "text", "text": f"sun over {call.input}"}],
            }
            for call in reversed(calls)
        ]
        history += [
            {"role": "assistant", "content": message.content},
            {"role": "user", "content": results},
        ]
    assert message.content[0].type == "text"
    assert message.content[0].text == "Sunny everywhere."
    assert asked == [each for n in range(3) for each in ({"city": f"City {n}"}, {})]
    requests = model.requests()
    assert len(requests) == 4
    last = [m for m in requests[-1]["body"]["messages"] if m["role"] in ("user", "assistant")]
    given = [b["content"] for m in last for b in m["content"] if b["type"] == "tool_result"]
    assert [str(each).count("sun over") for each in given] == [1] * 6
    daemon.wait_log("turn", conversation=conversation, messages=len(history))
    assert len({entry["worker"] for entry in turns(daemon, conversation)}) == 1


def test_a_result_is_an_error_or_an_image(
    claude: anthropic.Anthropic, model: LoopbackProcess
) -> None:
    call = {"type": "tool_use", "name": "mcp__client__weather", "input": {}}
    history = ask(directive(replies=[{"blocks": [call, call]}, {"text": "I see."}]))
    message = claude.messages.create(model=CHAT, max_tokens=1024, messages=history, tools=[WEATHER])
    first, second = (b for b in message.content if isinstance(b, ToolUseBlock))
    image: Any = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": PNG},
    }
    history += [
        {"role": "assistant", "content": message.content},
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": first.id,
                    "content": "no",
                    "is_error": True,
                },
                {"type": "tool_result", "tool_use_id": second.id, "content": [image]},
                {"type": "text", "text": "What do you say?"},
            ],
        },
    ]
    answer = claude.messages.create(model=CHAT, max_tokens=1024, messages=history, tools=[WEATHER])
    assert only_text(answer) == "I see."
    blocks = [b for m in model.requests()[-1]["body"]["messages"] for b in m["content"]]
    failed, seen = (b for b in blocks if isinstance(b, dict) and b["type"] == "tool_result")
    assert failed["is_error"] is True
    assert seen["content"][0]["type"] == "image"
    assert "What do you say?" in json.dumps(model.requests()[-1]["body"])


def test_images_and_documents(claude: anthropic.Anthropic, model: LoopbackProcess) -> None:
    pdf = base64.b64encode(b"%PDF-1.4\n%%EOF\n").decode()
    blocks: list[Any] = [
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": PNG},
        },
        {
            "type": "document",
            "title": "A plan",
            "source": {"type": "base64", "media_type": "application/pdf", "data": pdf},
        },
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "plain words"},
        },
        {"type": "text", "text": "What is it?", "cache_control": {"type": "ephemeral"}},
    ]
    claude.messages.create(
        model=CHAT, max_tokens=1024, messages=[{"role": "user", "content": blocks}]
    )
    told = model.requests()[0]["body"]["messages"][0]["content"]
    # A worker that was reset for this one tells of that before.
    content = [block for block in told if not block.get("text", "").startswith(ADDED)]
    assert [block["type"] for block in content][:4] == ["image", "document", "document", "text"]
    assert content[1]["source"]["data"] == pdf
    assert content[1]["title"] == "A plan"
    assert content[2]["source"]["data"] == "plain words"


def test_beta_headers_and_fields(claude: anthropic.Anthropic) -> None:
    message = claude.beta.messages.create(
        model=CHAT,
        max_tokens=1024,
        messages=[{"role": "user", "content": directive(text="Yes.")}],
        betas=["interleaved-thinking-2025-05-14", "context-management-2025-06-27"],
        context_management={"edits": []},
        metadata={"user_id": "u"},
    )
    assert message.content[0].type == "text"
    assert message.content[0].text == "Yes."


def test_structured_output(claude: anthropic.Anthropic) -> None:
    schema: dict[str, object] = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
    }
    prompt = directive(
        replies=[{"tool": "StructuredOutput", "input": {"n": 15}}, {"text": "Done."}]
    )
    message = claude.messages.create(
        model=CHAT,
        max_tokens=1024,
        messages=ask(prompt),
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    assert json.loads(only_text(message)) == {"n": 15}


def test_count_tokens_asks_no_model(claude: anthropic.Anthropic, model: LoopbackProcess) -> None:
    raw = claude.messages.with_raw_response.count_tokens(
        model=CHAT, messages=ask("four " * 700), system="s", tools=[WEATHER]
    )
    assert 1000 <= raw.parse().input_tokens <= 2000
    assert raw.headers["x-token-count"] == "estimate"
    beta = claude.beta.messages.count_tokens(
        model=CHAT, messages=[{"role": "user", "content": "hi"}]
    )
    assert beta.input_tokens < 20
    assert model.requests() == []


def test_models(claude: anthropic.Anthropic) -> None:
    ids = [each.id for each in claude.models.list(limit=5)]
    assert len(ids) == len(set(ids)) > 5, "the SDK has asked for every page"
    assert {"claude-opus-4", "sonnet:chat"} <= set(ids)
    found = claude.models.retrieve("claude-sonnet-4:chat")
    assert (found.id, found.type) == ("claude-sonnet-4:chat", "model")


def test_history_from_elsewhere_is_given_as_it_is(
    claude: anthropic.Anthropic, model: LoopbackProcess
) -> None:
    history: list[MessageParam] = [
        {"role": "user", "content": "one"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "See."},
                {"type": "tool_use", "id": "toolu_1", "name": "gone", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "found"}],
        },
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    claude.messages.create(model=CHAT, max_tokens=1024, messages=history)
    (request,) = model.requests()
    told = [m for m in request["body"]["messages"] if m["role"] in ("user", "assistant")]
    assert [m["role"] for m in told] == ["user", "assistant", "user", "assistant", "user"]
    assert told[1]["content"][-1]["input"] == {"a": 1}
    assert told[2]["content"][0]["tool_use_id"] == told[1]["content"][-1]["id"]


DIALECTS = ("chat", "messages", "responses")


@pytest.mark.parametrize("begins", DIALECTS)
def test_a_conversation_changes_its_dialect(
    claude: anthropic.Anthropic,
    client: openai.OpenAI,
    daemon: DaemonProcess,
    model: LoopbackProcess,
    begins: str,
) -> None:
    history: list[Any] = []
    ids = set()
    for number in range(6):
        said = f"turn {number} of {begins} {directive(text=f'answer {number}')}"
        history.append({"role": "user", "content": said})
        reply: Any
        match DIALECTS[(DIALECTS.index(begins) + number) % 3]:
            case "chat":
                system = {"role": "system", "content": "Count."}
                reply = client.chat.completions.with_raw_response.create(
                    model=CHAT, messages=[cast("ChatCompletionMessageParam", system), *history]
                )
                answer = reply.parse().choices[0].message.content
            case "messages":
                reply = claude.messages.with_raw_response.create(
                    model=CHAT, max_tokens=1024, messages=history, system="Count."
                )
                answer = reply.parse().content[0].text
            case _:
                reply = client.responses.with_raw_response.create(
                    model=CHAT, input=history, instructions="Count."
                )
                answer = reply.parse().output_text
        ids.add(reply.headers["x-conversation-id"])
        history.append({"role": "assistant", "content": answer})
    (conversation,) = ids
    daemon.wait_log("turn", conversation=conversation, messages=11)
    entries = turns(daemon, conversation)
    assert [entry["continued"] for entry in entries] == [False] + [True] * 5
    assert len({entry["worker"] for entry in entries}) == 1
    assert len(model.requests()) == 6
    assert len(model.conversations()[-1]) == 11


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.InternalServerError, "api_error"),
        (403, anthropic.PermissionDeniedError, "permission_error"),
        (413, anthropic.APIStatusError, "request_too_large"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (529, anthropic.InternalServerError, "overloaded_error"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_upstream_errors(
    claude: anthropic.Anthropic,
    status: int,
    error: type[anthropic.APIStatusError],
    kind: str,
    streamed: bool,
) -> None:
    with pytest.raises(error) as caught:
        claude.messages.create(
            model=CHAT, max_tokens=9, messages=ask(directive(error=status)), stream=streamed
        )
    assert caught.value.type == kind
    assert caught.value.request_id == caught.value.response.headers["x-request-id"]


def test_an_error_in_the_middle_of_a_stream(claude: anthropic.Anthropic) -> None:
    prompt = directive(words=50, error={"status": 529, "after": 5})
    with (
        pytest.raises(anthropic.APIStatusError) as caught,
        claude.messages.stream(model=CHAT, max_tokens=999, messages=ask(prompt)) as stream,
    ):
        list(stream.text_stream)
    assert caught.value.type in ("overloaded_error", "api_error")


def test_errors_before_any_routing_are_in_the_dialect_of_the_path(
    daemon: DaemonProcess,
) -> None:
    body = {"model": CHAT, "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
    with httpx.Client(base_url=daemon.base_url) as web:
        refusals = {
            (path, kind): web.request(method, path, headers=headers, **content)
            for path in ("/v1/messages", "/v1/chat/completions")
            for kind, method, headers, content in (
                ("origin", "POST", {"origin": "http://evil.example"}, {"json": body}),
                ("host", "POST", {"host": "evil.example"}, {"json": body}),
                ("type", "POST", {"content-type": "text/plain"}, {"content": b"{}"}),
                ("query", "POST", {}, {"json": body, "params": {"api_key": "k"}}),
                ("method", "GET", {}, {}),
                ("body", "POST", {}, {"json": {}}),
            )
        }
        unknown = web.get("/v1/messages/batches")
        models = web.get("/v1/models/nope", headers={"anthropic-version": "2023-06-01"})
        ours = web.get("/v1/models/nope")
    statuses = {"origin": 403, "host": 403, "type": 415, "query": 400, "method": 405, "body": 400}
    for (path, kind), reply in refusals.items():
        found = reply.json()
        assert reply.status_code == statuses[kind]
        assert reply.headers["x-request-id"]
        if path == "/v1/messages":
            assert found["type"] == "error"
            assert found["request_id"] == reply.headers["request-id"]
            assert found["request_id"] == reply.headers["x-request-id"]
            assert set(found["error"]) <= {"type", "message", "details"}
        else:
            assert set(found["error"]) == {"message", "type", "param", "code"}
            assert "request-id" not in reply.headers
    assert unknown.json()["error"]["type"] == "not_found_error"
    assert models.json()["error"]["type"] == "not_found_error"
    assert ours.json()["error"]["code"] == "model_not_found"


def test_refusals_name_what_is_wrong(claude: anthropic.Anthropic) -> None:
    hosted: Any = {"type": "code_execution_20250825", "name": "code_execution"}
    with pytest.raises(anthropic.BadRequestError, match="code_execution_20250825"):
        claude.messages.create(model=CHAT, max_tokens=9, messages=ask("x"), tools=[hosted])
    with pytest.raises(anthropic.BadRequestError, match="tool_use"):
        claude.messages.create(
            model=CHAT,
            max_tokens=9,
            messages=[
                {"role": "user", "content": "x"},
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}],
                },
                {"role": "user", "content": "y"},
            ],
        )
    with pytest.raises(anthropic.NotFoundError) as caught:
        claude.messages.create(model="gpt-4o", max_tokens=9, messages=ask("x"))
    assert caught.value.type == "not_found_error"


def test_claude_code_is_a_client(
    daemon: DaemonProcess, model: LoopbackProcess, tmp_path: Path
) -> None:
    """Its requests have every beta there is; its own tools are functions of the client's."""
    work = tmp_path / "work"
    work.mkdir()
    prompt = directive(
        replies=[
            {"tool": "mcp__client__Bash", "input": {"command": "echo $((6*7)) > answer"}},
            {"text": "It is written."},
        ]
    )
    done = subprocess.run(
        [real_cli(), "-p", "--model", CHAT, "--allowedTools=Bash", prompt],
        env={
            "PATH": os.environ["PATH"],
            **environment(daemon.base_url, str(tmp_path)),
            "CLAUDE_CODE_MAX_RETRIES": "0",
        },
        cwd=work,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "It is written."), done.stderr
    assert (work / "answer").read_text() == "42\n"
    assert len(model.requests()) == 2
