"""What is claimed of the Messages dialect."""

from typing import Any

from maxd.http.anthropic_fields import FIELDS
from tests.end_to_end.conformance.checks import (
    AGENT_MODEL,
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

TOOL: dict[str, Any] = {"name": "weather", "description": "Of a city.", "input_schema": SCHEMA}
FORMAT = {"type": "json_schema", "schema": SCHEMA}

# What several rows show is one request, which is sent once.
HAIKU = {"model": "haiku:chat"}
SETTINGS = {
    "system": [{"type": "text", "text": "Be brief."}],
    "tools": [TOOL, {**TOOL, "type": "custom", "name": "custom"}],
}
CHOICE = {
    "tools": [TOOL],
    "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
}
STREAM = {"stream": True, "thinking": {"type": "enabled", "budget_tokens": 2000}}


def least(text: str) -> dict[str, Any]:
    return {
        "model": CHAT_MODEL,
        "max_tokens": 1024,
        "messages": [{"role": "user", "content": text}],
    }


def said(*blocks: dict[str, Any]) -> dict[str, Any]:
    """A body whose one message holds `blocks`."""
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def answered(*blocks: dict[str, Any]) -> dict[str, Any]:
    """A body with an earlier answer of `blocks`, and the results of its calls."""
    calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
    results = [
        {"type": "tool_result", "tool_use_id": call, "content": [{"type": "text", "text": "sun"}]}
        for call in calls
    ]
    return {
        "messages": [
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": list(blocks)},
            {"role": "user", "content": [*results, {"type": "text", "text": "go on"}]},
        ]
    }


def error(kind: str, message: str = "") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_"}


def image(source: dict[str, Any]) -> dict[str, Any]:
    return {"type": "image", "source": source}


def document(source: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"type": "document", "source": source, **fields}


def turned_down(name: str, value: Any) -> Check:
    return refused(
        "fields",
        f"`{name}`",
        note=FIELDS.fields[name].note,
        body={name: value},
        reply=error("invalid_request_error", name),
    )


DATA = {"type": "base64", "media_type": "image/png", "data": PNG}
FILE = {"type": "base64", "media_type": "application/pdf", "data": PDF}
PLAIN = {"type": "text", "media_type": "text/plain", "data": "plain"}
MADE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "X"}}

BLOCKS = said(
    {"type": "text", "text": "Hi"},
    image(DATA),
    document(FILE, title="A plan"),
    document(PLAIN),
    document({"type": "content", "content": [{"type": "text", "text": "in it"}]}),
    {
        "type": "search_result",
        "title": "T",
        "source": "S",
        "content": [{"type": "text", "text": "found"}],
    },
)
HISTORY = answered(
    {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
    {"type": "text", "text": "a"},
    MADE,
)
UNHEEDED = {
    "messages": [
        {"role": "user", "content": [document(PLAIN, citations={"enabled": True})]},
        {
            "role": "assistant",
            "content": [{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "a"}],
        },
        {"role": "user", "content": "go on"},
    ]
}

CHECKS: tuple[Check, ...] = (
    honoured(
        "fields",
        "`model`",
        ask="Hello",
        body=HAIKU,
        reply={"model": "haiku:chat"},
        upstream={"model": "haiku"},
    ),
    honoured("fields", "`messages`", ask="Hello", body=HAIKU, upstream=given({"text": "Hello"})),
    honoured(
        "fields",
        "`max_tokens`",
        note=FIELDS.fields["max_tokens"].note,
        ask=directive(words=400),
        body={"max_tokens": 10},
        reply={"stop_reason": "max_tokens"},
    ),
    refused(
        "fields",
        "no `max_tokens`",
        note="as by Anthropic",
        body={"max_tokens": None},
        reply=error("invalid_request_error", "max_tokens"),
    ),
    honoured(
        "fields",
        "`system`",
        note="text or blocks",
        body=SETTINGS,
        upstream={"system": [{"text": "Be brief."}]},
    ),
    honoured(
        "fields", "`stream`", ask=THINKS, body=STREAM, events=("message_start", "message_stop")
    ),
    honoured(
        "fields",
        "`stop_sequences`",
        ask=directive(words=20),
        body={"stop_sequences": ["word7"]},
        reply={"stop_reason": "stop_sequence", "stop_sequence": "word7"},
    ),
    honoured(
        "fields",
        "`tools`",
        note="with an `input_schema`",
        body=SETTINGS,
        upstream={"tools": [{"name": "weather", "input_schema": {"properties": {"city": {}}}}]},
    ),
    honoured(
        "fields",
        "`tools`: `type: custom`",
        body=SETTINGS,
        upstream={"tools": [{"name": "custom", "input_schema": {"properties": {"city": {}}}}]},
    ),
    honoured(
        "fields",
        "`tools`: `web_search_…` for an agent",
        note="the CLI's own search; not together with functions",
        body={
            "model": AGENT_MODEL,
            "tools": [{"type": "web_search_20250305", "name": "web_search"}],
        },
        # Among the tools that the model loads when it wants them.
        upstream=given({"text": "WebSearch"}, role="system"),
    ),
    refused(
        "fields",
        "`tools`: `web_search_…` for a profile without tools",
        body={"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        reply=error("invalid_request_error", "tools"),
    ),
    refused(
        "fields",
        "`tools`: any other of Anthropic's",
        note="the error has its name",
        body={"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]},
        reply=error("invalid_request_error", "code_execution_20250825"),
    ),
    honoured(
        "fields",
        "`tool_choice`",
        note="`auto`, `any`, `tool`, `none`",
        ask=CALLS,
        body=CHOICE,
        reply={"stop_reason": "tool_use", "content": [{"name": "weather"}]},
        upstream={"system": [{"text": "You must call the function weather"}]},
    ),
    honoured(
        "fields",
        "`tool_choice.disable_parallel_tool_use`",
        ask=CALLS,
        body=CHOICE,
        reply={"content": ({"type": "tool_use"},)},
    ),
    honoured(
        "fields",
        "`thinking`",
        note=FIELDS.fields["thinking"].note,
        ask=THINKS,
        body={"thinking": {"type": "enabled", "budget_tokens": 2000}},
        reply={"content": [{"type": "thinking", "thinking": "hm"}]},
        upstream={"output_config": {"effort": "low"}},
    ),
    honoured(
        "fields",
        "`thinking.display`",
        note="`omitted` leaves the signature",
        ask=THINKS,
        body={"thinking": {"type": "adaptive", "display": "omitted"}},
        reply={"content": [{"type": "thinking", "thinking": ""}]},
    ),
    honoured(
        "fields",
        "`output_config`",
        note="`effort` and `format`",
        ask=STRUCTURED,
        body={"output_config": {"effort": "high", "format": FORMAT}},
        reply={"content": [{"text": '{"city":"X"}'}]},
        upstream={"output_config": {"effort": "high"}},
    ),
    honoured(
        "fields",
        "`output_format`",
        ask=STRUCTURED,
        body={"output_format": FORMAT},
        reply={"content": [{"text": '{"city":"X"}'}]},
    ),
    turned_down("mcp_servers", [{"type": "url", "url": "http://x", "name": "x"}]),
    turned_down("container", "c"),
    turned_down("thread", {"type": "new"}),
    ignored("metadata", {"user_id": "u"}),
    ignored("temperature", 0.5),
    ignored("top_p", 0.5),
    ignored("top_k", 5),
    ignored("service_tier", "auto"),
    ignored("speed", "standard"),
    ignored("inference_geo", "us"),
    ignored(
        "cache_control",
        {"type": "ephemeral"},
        "on blocks and tools too; the CLI marks by itself what is to be cached",
    ),
    ignored("context_management", {"edits": []}),
    ignored("compaction", {}),
    ignored("fallbacks", []),
    ignored("fallback_credit_token", "t"),
    ignored("billing_policy", {}),
    ignored("diagnostics", {}),
    ignored("user_profile_id", "u"),
    ignored("workspace_id", "w"),
    honoured(
        "content",
        "`text`",
        body=BLOCKS,
        upstream=given({"type": "text", "text": "Hi"}),
    ),
    honoured(
        "content",
        "`image`, base64",
        body=BLOCKS,
        upstream=given({"type": "image", "source": {"type": "base64"}}),
    ),
    refused(
        "content",
        "`image`, url or file",
        note="nothing is fetched",
        body=said(image({"type": "url", "url": "http://x/y.png"})),
        reply=error("invalid_request_error", "messages.0.content.0.source"),
    ),
    honoured(
        "content",
        "`document`, base64 PDF",
        body=BLOCKS,
        upstream=given({"type": "document", "title": "A plan", "source": {"data": PDF}}),
    ),
    honoured(
        "content",
        "`document`, text",
        body=BLOCKS,
        upstream=given({"type": "document", "source": {"data": "plain"}}),
    ),
    honoured(
        "content",
        "`document`, content",
        note="its blocks stand in its place",
        body=BLOCKS,
        upstream=given({"type": "text", "text": "in it"}),
    ),
    refused(
        "content",
        "`document`, a wrong file",
        note="what begins like no PDF",
        body=said(document({**FILE, "data": PNG})),
        reply=error("invalid_request_error", "messages.0.content.0.source"),
    ),
    refused(
        "content",
        "`document`, url or file",
        body=said(document({"type": "file", "file_id": "f"})),
        reply=error("invalid_request_error", "messages.0.content.0.source"),
    ),
    Check(
        group="content",
        name="`citations`",
        verdict=ignored("", None).verdict,
        body=UNHEEDED,
    ),
    honoured(
        "content",
        "`search_result`",
        note="becomes text",
        body=BLOCKS,
        upstream=given({"type": "text", "text": "found"}),
    ),
    honoured(
        "content",
        "`tool_use`, `tool_result`",
        body=HISTORY,
        upstream={
            "messages": [
                {"role": "assistant", "content": [{"type": "tool_use", "input": {"city": "X"}}]},
                {"role": "user", "content": [{"type": "tool_result"}]},
            ]
        },
    ),
    refused(
        "content",
        "`tool_use` without its `tool_result`, or the reverse",
        note="as by Anthropic",
        body=said({"type": "tool_result", "tool_use_id": "t", "content": "x"}),
        reply=error("invalid_request_error", "tool_result"),
    ),
    honoured(
        "content",
        "`thinking`",
        note="goes back as it came while its worker lives; newer CLIs leave it out of an import",
        body=HISTORY,
        upstream=given({"type": "text", "text": "a"}, role="assistant"),
    ),
    Check(
        group="content",
        name="`redacted_thinking`, blocks of the service's own tools",
        verdict=ignored("", None).verdict,
        note="only in history",
        body=UNHEEDED,
    ),
    refused(
        "content",
        "any other type",
        note="the error has its name",
        body=said({"type": "container_upload", "file_id": "f"}),
        reply=error("invalid_request_error", "container_upload"),
    ),
    refused(
        "content",
        "an answer begun by the client (prefill)",
        body={
            "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
        },
        reply=error("invalid_request_error", "messages.1.role"),
    ),
    honoured(
        "events",
        "text",
        ask=THINKS,
        body=STREAM,
        events=(
            "message_start",
            "content_block_start",
            "text_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ),
    ),
    honoured(
        "events",
        "thinking and its signature",
        ask=THINKS,
        body=STREAM,
        events=("thinking_delta", "signature_delta", "text_delta"),
    ),
    honoured(
        "events",
        "calls",
        ask=CALLS,
        body={"stream": True, "tools": [TOOL]},
        events=("input_json_delta", "content_block_stop", "input_json_delta", "message_delta"),
    ),
    honoured(
        "events",
        "errors in the middle",
        ask=BREAKS_OFF,
        body={"stream": True},
        events=("text_delta", "error"),
    ),
    *errors(
        unknown_model=("`not_found_error`", error("not_found_error")),
        forbidden=("`permission_error`", error("permission_error")),
        limited=("`rate_limit_error`", error("rate_limit_error")),
        overloaded=("`overloaded_error`", error("overloaded_error")),
        overloaded_status=529,
        overloaded_note="529",
    ),
    honoured(
        "errors", "`api_error`", ask=directive(error=500), status=502, reply=error("api_error")
    ),
    honoured(
        "endpoints",
        "`POST /v1/messages/count_tokens`",
        note="an estimate: the CLI cannot count without asking the service",
        path="/v1/messages/count_tokens",
        body={"max_tokens": None},
        reply={"input_tokens": 5},
        ask="x",
    ),
    honoured(
        "endpoints",
        "`GET /v1/models`, `/v1/models/{id}`",
        note="in Anthropic's shape with `anthropic-version` or `x-api-key`",
        method="GET",
        path="/v1/models?limit=1",
        headers={"anthropic-version": "2023-06-01"},
        reply={"data": [{"type": "model", "lifecycle": "active"}], "has_more": True},
    ),
    refused(
        "endpoints",
        "batches and files",
        path="/v1/messages/batches",
        status=404,
        reply=error("not_found_error"),
    ),
)

MESSAGES = Dialect(
    name="messages",
    title="Anthropic Messages",
    path="/v1/messages",
    fields=tuple(FIELDS.fields),
    least=least,
    checks=CHECKS,
)
