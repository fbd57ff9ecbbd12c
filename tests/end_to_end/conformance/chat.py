"""What is claimed of the dialect of chat completions."""

from typing import Any

from maxd.http.openai_chat import VERBOSITY
from maxd.http.openai_fields import FIELDS
from tests.end_to_end.conformance.checks import (
    BREAKS_OFF,
    CALLS,
    CHAT_MODEL,
    PDF,
    PNG,
    SCHEMA,
    STRUCTURED,
    THINKS,
    Check,
    Dialect,
    errors,
    given,
    honoured,
    ignored,
    refused,
)
from tests.end_to_end.running import directive

TOOL: dict[str, Any] = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}

# What several rows show is one request, which is sent once.
HAIKU = {"model": "haiku:chat"}
SETTINGS = {"tools": [TOOL], "reasoning_effort": "high", "verbosity": "low"}
CHOICE = {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}
STREAM = {"stream": True, "stream_options": {"include_usage": True}}


def least(text: str) -> dict[str, Any]:
    return {"model": CHAT_MODEL, "messages": [{"role": "user", "content": text}]}


def said(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


def finished(reason: str, **message: Any) -> dict[str, Any]:
    return {"choices": [{"finish_reason": reason, "message": message}]}


def error(kind: str, param: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"error": {"type": kind, **({"param": param} if param else {}), **fields}}


def turned_down(name: str, value: Any) -> Check:
    return refused(
        "fields",
        f"`{name}`",
        note=FIELDS.fields[name].note,
        body={name: value},
        reply=error("invalid_request_error", name),
    )


PARTS = said(
    {"type": "text", "text": "Hi"},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
    {
        "type": "file",
        "file": {"filename": "a", "file_data": f"data:application/pdf;base64,{PDF}"},
    },
)

CHECKS: tuple[Check, ...] = (
    honoured("fields", "`messages`", ask="Hello", body=HAIKU, upstream=given({"text": "Hello"})),
    honoured(
        "fields",
        "`model`",
        ask="Hello",
        body=HAIKU,
        reply={"model": "haiku:chat"},
        upstream={"model": "haiku"},
    ),
    honoured("fields", "`stream`", ask=THINKS, body=STREAM, events=("role", "content", "stop")),
    honoured(
        "fields",
        "`stream_options`",
        note="`include_usage`",
        ask=THINKS,
        body=STREAM,
        events=("stop", "usage"),
    ),
    honoured(
        "fields",
        "`tools`",
        note="functions",
        body=SETTINGS,
        upstream={"tools": [{"name": "weather", "input_schema": {"properties": {"city": {}}}}]},
    ),
    honoured(
        "fields",
        "`tool_choice`",
        note=FIELDS.fields["tool_choice"].note,
        ask=CALLS,
        body=CHOICE,
        reply=finished("tool_calls"),
        upstream={"system": [{"text": "You must call at least one of your functions"}]},
    ),
    honoured(
        "fields",
        "`parallel_tool_calls`",
        ask=CALLS,
        body=CHOICE,
        reply=finished("tool_calls", tool_calls=({"type": "function"},)),
    ),
    honoured(
        "fields",
        "`response_format`",
        note=FIELDS.fields["response_format"].note,
        ask=STRUCTURED,
        body={
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": SCHEMA},
            }
        },
        reply=finished("stop", content='{"city":"X"}'),
    ),
    honoured(
        "fields",
        "`reasoning_effort`",
        note=FIELDS.fields["reasoning_effort"].note,
        body=SETTINGS,
        upstream={"output_config": {"effort": "high"}},
    ),
    *(
        honoured(
            "fields",
            f"`{name}`",
            note=FIELDS.fields[name].note,
            ask=directive(words=400),
            body={name: 10},
            reply=finished("length"),
        )
        for name in ("max_tokens", "max_completion_tokens")
    ),
    honoured(
        "fields",
        "`stop`",
        note=FIELDS.fields["stop"].note,
        ask=directive(words=20),
        body={"stop": ["word3"]},
        reply=finished("stop", content="word1 word2"),
    ),
    honoured(
        "fields",
        "`verbosity`",
        note=FIELDS.fields["verbosity"].note,
        body=SETTINGS,
        upstream={"system": [{"text": VERBOSITY["low"]}]},
    ),
    turned_down("n", 2),
    turned_down("functions", [{"name": "f"}]),
    turned_down("function_call", {"name": "f"}),
    turned_down("logprobs", True),
    turned_down("top_logprobs", 2),
    turned_down("logit_bias", {"1": 1}),
    turned_down("audio", {"voice": "alloy"}),
    turned_down("modalities", ["text", "audio"]),
    turned_down("web_search_options", {"search_context_size": "low"}),
    ignored("temperature", 0.5),
    ignored("top_p", 0.5),
    ignored("presence_penalty", 0.5),
    ignored("frequency_penalty", 0.5),
    ignored("seed", 1),
    ignored("user", "u"),
    ignored("safety_identifier", "u"),
    ignored("metadata", {"a": "b"}),
    ignored("store", False),
    ignored("prompt_cache_key", "k"),
    ignored("prompt_cache_retention", "24h"),
    ignored("service_tier", "auto"),
    ignored("prediction", {"type": "content", "content": "x"}),
    honoured(
        "content",
        "`text`",
        body=PARTS,
        upstream=given({"text": "Hi"}),
    ),
    honoured(
        "content",
        "`image_url`, data",
        body=PARTS,
        upstream=given({"type": "image"}),
    ),
    refused(
        "content",
        "`image_url`, http",
        note="nothing is fetched",
        body=said({"type": "image_url", "image_url": {"url": "http://x/y.png"}}),
        reply=error(
            "invalid_request_error",
            "messages[0].content[0].image_url.url",
            code="invalid_image_url",
        ),
    ),
    honoured(
        "content",
        "`file`, data",
        body=PARTS,
        upstream=given({"type": "document"}),
    ),
    refused(
        "content",
        "`file`, a wrong one",
        note="what begins like no PDF",
        body=said({"type": "file", "file": {"file_data": "data:application/pdf;base64,aGVsbG8="}}),
        reply=error("invalid_request_error", "messages[0].content[0].file.file_data"),
    ),
    refused(
        "content",
        "`input_audio`",
        body=said({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}),
        reply=error("invalid_request_error"),
    ),
    honoured(
        "content",
        "`tool_calls`, role `tool`",
        body={
            "messages": [
                {"role": "user", "content": "x"},
                {
                    "role": "assistant",
                    "tool_calls": [
                        {
                            "id": "c1",
                            "type": "function",
                            "function": {"name": "f", "arguments": "{}"},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "sun"},
            ]
        },
        upstream=given({"type": "tool_result", "tool_use_id": "c1"}),
    ),
    honoured(
        "events",
        "text",
        ask=THINKS,
        body=STREAM,
        events=("role", "content", "stop", "[DONE]"),
    ),
    honoured(
        "events",
        "thinking",
        note="`reasoning_content`",
        ask=THINKS,
        body=STREAM,
        events=("reasoning_content", "content", "stop"),
    ),
    honoured(
        "events",
        "calls",
        ask=CALLS,
        body={"stream": True, "tools": [TOOL]},
        events=("tool_calls", "tool_calls"),
    ),
    honoured(
        "events",
        "errors in the middle",
        note="and no `[DONE]`",
        ask=BREAKS_OFF,
        body={"stream": True},
        events=("content", "error"),
    ),
    *errors(
        unknown_model=(
            "404 `model_not_found`",
            error("invalid_request_error", "model", code="model_not_found"),
        ),
        forbidden=("403", error("permission_error")),
        limited=("429", error("rate_limit_error")),
        overloaded=("503 overloaded", error("server_error", code="overloaded")),
    ),
    honoured(
        "endpoints",
        "`GET /v1/models`, `/v1/models/{id}`",
        method="GET",
        path="/v1/models",
        reply={"object": "list", "data": [{"object": "model"}]},
    ),
)

CHAT = Dialect(
    name="chat",
    title="OpenAI chat completions",
    path="/v1/chat/completions",
    fields=tuple(FIELDS.fields),
    least=least,
    checks=CHECKS,
)
