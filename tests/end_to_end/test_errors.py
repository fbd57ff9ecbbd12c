"""Whatever goes wrong behind the real CLI, the client's SDK raises what it should."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.end_to_end.running import DaemonProcess, LoopbackProcess, directive, loopback_process

# Words on which some clients lock their provider for minutes, and the CLI's own.
UNWANTED = ("401", "402", "403", "quota", "billing", "expired", "api error", "/login", "·")
TOO_LONG = "prompt is too long: 210000 tokens > 200000 maximum"
OTHER_USE = "This credential is only authorized for use with Claude Code."


def ask(client: openai.OpenAI, prompt: str, *, stream: bool, model: str = "sonnet:chat") -> str:
    """The text of the answer to `prompt`."""
    messages: Any = [{"role": "user", "content": prompt}]
    if not stream:
        whole = client.chat.completions.create(model=model, messages=messages)
        return whole.choices[0].message.content or ""
    chunks = client.chat.completions.create(model=model, messages=messages, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


BEFORE: list[tuple[dict[str, Any], type[openai.APIStatusError], int, str, str | None]] = [
    ({"error": 400}, openai.BadRequestError, 400, "upstream_refused", None),
    ({"error": {"status": 400, "message": TOO_LONG}},
     openai.BadRequestError, 400, "context_length_exceeded", None),
    ({"error": {"status": 400, "message": OTHER_USE}},
     openai.PermissionDeniedError, 403, "use_refused", None),
    ({"error": 401}, openai.InternalServerError, 503, "backend_unavailable", "30"),
    ({"error": 402}, openai.APIStatusError, 402, "upstream_refused", None),
    ({"error": 403}, openai.PermissionDeniedError, 403, "use_refused", None),
    ({"error": 404}, openai.NotFoundError, 404, "model_not_found", None),
    ({"error": 413}, openai.APIStatusError, 413, "request_too_large", None),
    ({"error": 429}, openai.RateLimitError, 429, "rate_limit_exceeded", "10"),
    ({"error": 500}, openai.InternalServerError, 502, "upstream_error", None),
    ({"error": 504}, openai.InternalServerError, 504, "upstream_timeout", None),
    ({"error": 529}, openai.InternalServerError, 503, "overloaded", "10"),
    ({"text": "never seen", "cut": -1},
     openai.InternalServerError, 502, "upstream_unreachable", "5"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("reply", "kind", "status", "code", "retry_after"),
    BEFORE,
    ids=[f"{reply.get('error', 'cut')}"[:40] for reply, *_ in BEFORE],
)
def test_before_the_first_token_an_error_has_its_status(
    client: openai.OpenAI,
    reply: dict[str, Any],
    kind: type[openai.APIStatusError],
    status: int,
    code: str,
    retry_after: str | None,
) -> None:
    with pytest.raises(kind) as caught:
        # A worker for each: so every other one of them is streamed.
        ask(client, directive(**reply), stream=status % 2 == 0)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert caught.value.response.headers.get("retry-after") == retry_after
    assert not [word for word in UNWANTED if word in str(caught.value.body).lower()]
    if code == "context_length_exceeded":
        assert isinstance(caught.value.body, dict)
        assert caught.value.body["message"] == TOO_LONG


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 500, 529, "cut"])
def test_after_the_first_token_an_error_is_an_event_of_the_stream(
    client: openai.OpenAI, status: int | str
) -> None:
    failure = {"cut": 2} if status == "cut" else {"error": {"status": status, "after": 2}}
    prompt = directive(text="one two three four five", pace=0.1, **failure)
    told: list[str] = []

    def read() -> None:
        messages: Any = [{"role": "user", "content": prompt}]
        for chunk in client.chat.completions.create(
            model="sonnet:chat", messages=messages, stream=True
        ):
            told.append(chunk.choices[0].delta.content or "")
            assert chunk.choices[0].finish_reason is None

    with pytest.raises(openai.APIError) as caught:
        read()
    # At once, not when the CLI has tried again in vain: the client cannot be given another answer.
    assert type(caught.value) is openai.APIError, "no status is left to tell"
    assert caught.value.code == "upstream_error"
    # What came in one read with the break may be lost with it.
    assert "".join(told).split() in (["one"], ["one", "two"])
    assert not [word for word in UNWANTED if word in str(caught.value.body).lower()]


def test_a_service_that_cannot_be_reached(tmp_path: Path) -> None:
    # The discard port: nothing listens there.
    with DaemonProcess(tmp_path, "http://127.0.0.1:9") as daemon:
        daemon.wait_serving()
        with daemon.client() as client, pytest.raises(openai.InternalServerError) as caught:
            ask(client, "hi", stream=True)
        assert (caught.value.status_code, caught.value.code) == (502, "upstream_unreachable")
        assert daemon.stop() == 0


@pytest.mark.parametrize("model_id", ["sonnet:chat", "sonnet"])
@pytest.mark.parametrize(
    ("stop", "finish"), [("max_tokens", "length"), ("refusal", "content_filter")]
)
def test_an_answer_cut_short_or_refused_ends_as_one(
    client: openai.OpenAI, model: LoopbackProcess, model_id: str, stop: str, finish: str
) -> None:
    prompt = directive(replies=[{"text": "as far as ", "stop_reason": stop}] * 4)
    messages: Any = [{"role": "user", "content": prompt}]
    answer = client.chat.completions.create(model=model_id, messages=messages)
    assert answer.choices[0].finish_reason == finish
    text = answer.choices[0].message.content or ""
    asked = len(model.requests())
    # `live` has told what the model had said before it was refused for good.
    assert text == "as far as " * (asked if stop == "max_tokens" or ":" in model_id else 1)
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    # The CLI's own history has its excuses in it: the conversation goes on from the client's.
    messages += [
        {"role": "assistant", "content": text},
        {"role": "user", "content": directive(text="fine")},
    ]
    again = client.chat.completions.create(model=model_id, messages=messages)
    assert again.choices[0].message.content == "fine"
    assert model.conversations()[asked] == [
        (message["role"], message["content"]) for message in messages
    ]


@pytest.mark.parametrize("model_id", ["sonnet:chat", "sonnet"])
def test_a_conversation_that_does_not_fit_is_compacted_and_goes_on(
    tmp_path: Path, model_id: str
) -> None:
    too_long = {"error": {"status": 400, "message": TOO_LONG}}
    answers: list[dict[str, Any]] = [{"text": f"answer {number}"} for number in range(1, 9)]
    script = [*answers[:6], too_long, {"text": "<summary>SUMMARY</summary>"}, *answers[6:]]
    (tmp_path / "script.json").write_text(json.dumps(script))
    with (
        loopback_process(tmp_path / "script.json") as model,
        DaemonProcess(tmp_path, model.base_url) as daemon,
    ):
        daemon.wait_serving()
        messages: Any = []
        with daemon.client() as client:
            for number in range(1, 9):
                messages.append({"role": "user", "content": f"question {number} " + "bla " * 200})
                answer = client.chat.completions.create(model=model_id, messages=messages)
                assert answer.choices[0].message.content == f"answer {number}"
                messages.append({"role": "assistant", "content": f"answer {number}"})
                assert daemon.wait_log("turn")["continued"] is (number > 1)
        assert len(model.requests()) == 10
        assert daemon.stop() == 0


@pytest.mark.parametrize("model_id", ["claude-sonnet-4-5:chat", "claude-sonnet-4-5"])
def test_a_conversation_that_the_cli_itself_finds_too_long_is_refused(
    tmp_path: Path, model: LoopbackProcess, model_id: str
) -> None:
    # The CLI counts what the service has told it was used, and asks nothing.
    with DaemonProcess(tmp_path, model.base_url, {"DISABLE_COMPACT": "1"}) as daemon:
        daemon.wait_serving()
        prompt = directive(text="full", usage={"input": 199_000})
        messages: Any = [{"role": "user", "content": prompt}]
        with daemon.client() as client:
            client.chat.completions.create(model=model_id, messages=messages)
            messages += [{"role": "assistant", "content": "full"}, {"role": "user", "content": "?"}]
            with pytest.raises(openai.BadRequestError) as caught:
                client.chat.completions.create(model=model_id, messages=messages)
        assert caught.value.code == "context_length_exceeded"
        assert len(model.requests()) == 1
        assert daemon.stop() == 0
