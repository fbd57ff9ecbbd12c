"""Chat completions through the official SDK, the real CLI and the loopback model."""

import base64

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.end_to_end.running import DaemonProcess, LoopbackProcess, directive

CHAT = "claude-sonnet-4:chat"
AGENT = "claude-sonnet-4"


def ask(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("model_id", [CHAT, AGENT, "maxproxy/haiku:chat", "opus:agent"])
def test_answer_in_one_piece(client: openai.OpenAI, model_id: str) -> None:
    prompt = directive(text="Fifteen.", usage={"input": 11, "output": 7, "cache_read": 5})
    completion = client.chat.completions.create(model=model_id, messages=ask(prompt))
    assert completion.choices[0].message.content == "Fifteen."
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model == model_id
    assert completion.usage is not None
    assert completion.usage.prompt_tokens == 16
    assert completion.usage.completion_tokens == 7
    assert completion.usage.prompt_tokens_details is not None
    assert completion.usage.prompt_tokens_details.cached_tokens == 5


@pytest.mark.parametrize("model_id", [CHAT, AGENT])
def test_answer_as_a_stream(client: openai.OpenAI, model_id: str) -> None:
    chunks = list(
        client.chat.completions.create(
            model=model_id,
            messages=ask(directive(words=50, usage={"input": 3, "output": 50})),
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text.split() == [f"word{n}" for n in range(1, 51)]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert [c.usage.total_tokens for c in chunks if c.usage] == [53]
    assert not chunks[-1].choices
    assert len({(c.id, c.created, c.model) for c in chunks}) == 1


def test_live_stream_comes_in_pieces(client: openai.OpenAI, model: LoopbackProcess) -> None:
    stream = client.chat.completions.create(
        model=CHAT, messages=ask(directive(words=30, pace=0.05)), stream=True
    )
    for chunk in stream:
        if chunk.choices[0].delta.content:
            # The first word is here, and the model has not said the last one yet.
            assert model.requests()[0]["ended"] is None
            break
    else:
        pytest.fail("no text came")
    stream.close()


def test_history_is_given_as_real_messages(client: openai.OpenAI, model: LoopbackProcess) -> None:
    history: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "/help one"},
        {"role": "assistant", "content": "uno"},
        {"role": "user", "content": [{"type": "text", "text": "two"}]},
        {"role": "assistant", "content": "dos"},
        {"role": "user", "content": "/compact three"},
    ]
    client.chat.completions.create(model=CHAT, messages=history)
    (request,) = model.requests()
    assert model.conversations() == [
        [
            ("user", "/help one"),
            ("assistant", "uno"),
            ("user", "two"),
            ("assistant", "dos"),
            ("user", "/compact three"),
        ]
    ]
    assert request["body"]["system"][-1]["text"] == "Be brief.\n\nBe kind."


def test_agent_appends_the_system_message(client: openai.OpenAI, model: LoopbackProcess) -> None:
    system: ChatCompletionMessageParam = {"role": "system", "content": "Be brief."}
    client.chat.completions.create(model=AGENT, messages=[system, *ask("hi")])
    text = model.requests()[0]["body"]["system"][-1]["text"]
    assert text.endswith("Be brief.")
    assert len(text) > 1000, "the CLI's own prompt is still there"


def test_agent_uses_its_tools_and_sends_the_last_text_only(
    client: openai.OpenAI, shared_daemon: DaemonProcess, model: LoopbackProcess
) -> None:
    prompt = directive(
        replies=[
            {"text": "Let me look.", "tool": "Bash", "input": {"command": "echo 6*7 | bc || true"}},
            {"text": "It is done."},
        ]
    )
    completion = client.chat.completions.create(model=AGENT, messages=ask(prompt))
    assert completion.choices[0].message.content == "It is done."
    rounds = model.requests()
    assert len(rounds) == 2
    assert rounds[1]["body"]["messages"][-1]["content"][0]["type"] == "tool_result"


def test_image(client: openai.OpenAI, model: LoopbackProcess) -> None:
    png = base64.b64encode(
        bytes.fromhex(
            "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
            "1f15c4890000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
        )
    ).decode()
    client.chat.completions.create(
        model=CHAT,
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png}"}},
                ],
            }
        ],
    )
    content = model.requests()[0]["body"]["messages"][0]["content"]
    assert [block["type"] for block in content][:2] == ["text", "image"]


def test_ignored_fields_are_named(client: openai.OpenAI) -> None:
    reply = client.chat.completions.with_raw_response.create(
        model=CHAT, messages=ask("hi"), temperature=0.5, max_tokens=16, seed=1
    )
    assert set(reply.headers["x-ignored-params"].split(", ")) == {"seed", "temperature"}


def test_models(client: openai.OpenAI) -> None:
    ids = [model.id for model in client.models.list()]
    assert {"claude-opus-4", "claude-sonnet-4", "claude-haiku-4", "opus", "sonnet:chat"} <= set(ids)
    assert client.models.retrieve("claude-sonnet-4:chat").id == "claude-sonnet-4:chat"
    assert client.models.retrieve("claude-opus-4-5-20251101").owned_by == "anthropic"


@pytest.mark.parametrize("model_id", ["gpt-4o", "claude-sonnet-4:nothing", "--help", "opus "])
def test_unknown_model(client: openai.OpenAI, model_id: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model=model_id, messages=ask("hi"))
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"


def test_model_the_service_does_not_know(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(
            model="claude-nothing-9:chat", messages=ask(directive(error=404))
        )
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.InternalServerError),
        (403, openai.PermissionDeniedError),
        (413, openai.APIStatusError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (529, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_upstream_errors(
    client: openai.OpenAI, status: int, error: type[openai.APIStatusError], stream: bool
) -> None:
    with pytest.raises(error) as caught:
        client.chat.completions.create(
            model=CHAT, messages=ask(directive(error=status)), stream=stream
        )
    body = caught.value.body
    assert isinstance(body, dict)
    assert set(body) == {"message", "type", "param", "code"}
    assert caught.value.response.headers["x-request-id"]
