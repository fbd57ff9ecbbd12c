"""The Messages API through the official SDK, the real CLI and the loopback model."""

import base64
import json
from typing import TYPE_CHECKING, Any

import anthropic
import pytest
from anthropic.types import Message, TextBlock, ThinkingBlock, ToolUseBlock

from tests.end_to_end.messaging import CHAT, ask, turns
from tests.end_to_end.running import ADDED, DaemonProcess, LoopbackProcess, directive

if TYPE_CHECKING:
    from anthropic.types import MessageParam, ToolParam, ToolResultBlockParam

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


def only_text(message: Message) -> str:
    (block,) = message.content
    assert isinstance(block, TextBlock)
    return block.text


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
    chat_daemon: DaemonProcess,
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
    chat_daemon.wait_log("turn", conversation=conversation, messages=len(history))
    assert len({entry["worker"] for entry in turns(chat_daemon, conversation)}) == 1


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
