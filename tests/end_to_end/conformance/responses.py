"""What is claimed of the Responses dialect."""

from typing import Any

from maxd.http.responses_fields import FIELDS
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
    Verdict,
    errors,
    given,
    honoured,
    ignored,
    refused,
)
from tests.end_to_end.running import directive

TOOL: dict[str, Any] = {"type": "function", "name": "weather", "parameters": SCHEMA}
SEARCH = {"type": "web_search"}
EARLIER = f"earlier {directive(text='uno')}"
STORED = "/v1/responses/{response}"

# What several rows show is one request, which is sent once.
SETTINGS = {
    "model": "haiku:chat",
    "instructions": "Be brief.",
    "metadata": {"a": "b"},
    "store": False,
}
THINKING = {
    "reasoning": {"effort": "high", "summary": "auto"},
    "include": ["reasoning.encrypted_content"],
}
CHOICE = {
    "tools": [TOOL],
    "tool_choice": {"type": "function", "name": "weather"},
    "parallel_tool_calls": False,
}
STREAM = {"stream": True, "reasoning": {"summary": "auto"}}
WITHOUT_EFFECT = {"reasoning": {"mode": "pro", "context": "all_turns"}}


def least(text: str) -> dict[str, Any]:
    return {"model": CHAT_MODEL, "input": text}


def said(*parts: dict[str, Any], role: str = "user") -> dict[str, Any]:
    return {"type": "message", "role": role, "content": list(parts)}


def error(param: str | None, code: str | None = "unsupported_value", **fields: Any) -> Any:
    return {"error": {"type": "invalid_request_error", "param": param, "code": code, **fields}}


def turned_down(name: str, value: Any) -> Check:
    return refused(
        "fields",
        f"`{name}`",
        note=FIELDS.fields[name].note,
        body={name: value},
        reply=error(name, "unsupported_parameter"),
    )


def not_taken(
    name: str,
    part: dict[str, Any],
    param: str,
    note: str = "",
    *,
    code: str | None = "unsupported_value",
) -> Check:
    """A part that is refused; `param` is its place in it."""
    return refused(
        "parts",
        name,
        note=note,
        body={"input": [said(part)]},
        reply=error(f"input[0].content[0]{param}", code),
    )


ITEMS = {
    "input": [
        said({"type": "input_text", "text": "Rules."}, role="developer"),
        said(
            {"type": "input_text", "text": "Hi"},
            {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
            {
                "type": "input_file",
                "filename": "a.pdf",
                "file_data": f"data:application/pdf;base64,{PDF}",
            },
        ),
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        said(
            {"type": "output_text", "text": "Let me see.", "annotations": []},
            {"type": "refusal", "refusal": "Not that."},
            role="assistant",
        ),
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"city":"X"}'},
        {"type": "function_call_output", "call_id": "c1", "output": "sun"},
    ]
}

CHECKS: tuple[Check, ...] = (
    honoured(
        "fields",
        "`model`",
        ask="Hello",
        body=SETTINGS,
        reply={"model": "haiku:chat"},
        upstream={"model": "haiku"},
    ),
    honoured(
        "fields",
        "`input`",
        note=FIELDS.fields["input"].note,
        ask="Hello",
        body=SETTINGS,
        upstream=given({"text": "Hello"}),
    ),
    honoured(
        "fields",
        "`instructions`",
        note=FIELDS.fields["instructions"].note,
        ask="Hello",
        body=SETTINGS,
        reply={"instructions": "Be brief."},
        upstream={"system": [{"text": "Be brief."}]},
    ),
    honoured(
        "fields",
        "`metadata`",
        note=FIELDS.fields["metadata"].note,
        ask="Hello",
        body=SETTINGS,
        reply={"metadata": {"a": "b"}},
    ),
    honoured(
        "fields",
        "`store`",
        note=FIELDS.fields["store"].note,
        ask="Hello",
        body=SETTINGS,
        reply={"store": False},
    ),
    honoured(
        "fields",
        "`previous_response_id`",
        ask="and now?",
        earlier=EARLIER,
        body={"previous_response_id": "{response}"},
        reply={"previous_response_id": "resp_"},
        upstream={
            "messages": [
                {"role": "user", "content": [{"text": "earlier"}]},
                {"role": "assistant", "content": [{"text": "uno"}]},
                {"role": "user", "content": [{"text": "and now?"}]},
            ]
        },
    ),
    refused(
        "fields",
        "`previous_response_id` of a response that is not stored",
        note="never stored, expired, deleted, another key's, or after one that is not stored",
        body={"previous_response_id": "resp_x"},
        status=404,
        reply=error("previous_response_id", "previous_response_not_found"),
    ),
    honoured(
        "fields",
        "`stream`",
        ask=THINKS,
        body=STREAM,
        events=("response.created", "response.in_progress", "response.completed"),
    ),
    honoured(
        "fields",
        "`tools`",
        note="functions (`strict` has no effect)",
        ask=CALLS,
        body=CHOICE,
        upstream={"tools": [{"name": "weather", "input_schema": {"properties": {"city": {}}}}]},
    ),
    honoured(
        "fields",
        "`tools`: `web_search` for an agent",
        note="the CLI's own search",
        body={"model": AGENT_MODEL, "tools": [SEARCH]},
        # Among the tools that the model loads when it wants them.
        upstream=given({"text": "WebSearch"}, role="system"),
    ),
    refused(
        "fields",
        "`tools`: `web_search` for a profile without tools",
        body={"tools": [SEARCH]},
        reply=error("tools", message="no web_search"),
    ),
    refused(
        "fields",
        "`tools`: `web_search` together with functions",
        body={"model": AGENT_MODEL, "tools": [SEARCH, TOOL]},
        reply=error("tools", message="together with functions"),
    ),
    *(
        refused(
            "fields",
            f"`tools`: `{kind}`",
            note="and any other: the error has its name",
            body={"tools": [{"type": kind, "name": "x"}]},
            reply=error("tools[0].type", message=kind),
        )
        for kind in ("custom", "file_search")
    ),
    honoured(
        "fields",
        "`tool_choice`",
        note=FIELDS.fields["tool_choice"].note,
        ask=CALLS,
        body=CHOICE,
        reply={
            "tool_choice": {"name": "weather"},
            "output": [{"type": "function_call", "name": "weather", "arguments": '{"city":"X"}'}],
        },
        upstream={"system": [{"text": "You must call the function weather"}]},
    ),
    honoured(
        "fields",
        "`parallel_tool_calls`",
        ask=CALLS,
        body=CHOICE,
        reply={"output": ({"type": "function_call"},)},
    ),
    honoured(
        "fields",
        "`text`",
        note="`format` text, json_schema, json_object",
        ask=STRUCTURED,
        body={"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}},
        reply={"output": [{"content": [{"text": '{"city":"X"}'}]}]},
    ),
    honoured(
        "fields",
        "`reasoning`",
        note="`effort`; with a `summary` the model's thinking is sent as one",
        ask=THINKS,
        body=THINKING,
        reply={"output": [{"type": "reasoning", "summary": [{"text": "hm"}]}]},
        upstream={"output_config": {"effort": "high"}},
    ),
    honoured(
        "fields",
        "`include`",
        note="`reasoning.encrypted_content`; others are empty",
        ask=THINKS,
        body=THINKING,
        reply={"output": [{"type": "reasoning", "encrypted_content": ""}]},
    ),
    refused(
        "fields",
        "`include`: logprobs",
        body={"include": ["message.output_text.logprobs"]},
        reply=error("include"),
    ),
    honoured(
        "fields",
        "`max_output_tokens`",
        ask=directive(words=400),
        body={"max_output_tokens": 10},
        reply={"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
    ),
    turned_down("background", True),
    turned_down("conversation", "conv_1"),
    turned_down("prompt", {"id": "p"}),
    turned_down("moderation", {"model": "m"}),
    turned_down("top_logprobs", 2),
    ignored("temperature", 0.5),
    ignored("top_p", 0.5),
    ignored("truncation", "auto", FIELDS.fields["truncation"].note),
    ignored("max_tool_calls", 3),
    ignored("context_management", []),
    ignored("stream_options", {}, FIELDS.fields["stream_options"].note),
    ignored("user", "u"),
    ignored("safety_identifier", "u"),
    ignored("prompt_cache_key", "k"),
    ignored("prompt_cache_retention", "24h"),
    ignored("prompt_cache_options", {}),
    ignored("service_tier", "auto"),
    ignored("image", {}),
    *(
        Check(group="fields", name=f"`{name}`", verdict=Verdict.IGNORED, body=body)
        for name, body in (
            ("text.verbosity", {"text": {"verbosity": "low"}}),
            ("reasoning.mode", WITHOUT_EFFECT),
            ("reasoning.context", WITHOUT_EFFECT),
        )
    ),
    honoured(
        "items",
        "`message`",
        note="also without its type; a system or developer message at the head is a system text",
        body=ITEMS,
        upstream=given({"text": "Hi"}) | {"system": [{"text": "Rules."}]},
    ),
    honoured(
        "items",
        "`function_call`, `function_call_output`",
        body=ITEMS,
        upstream={
            "messages": [
                {"role": "assistant", "content": [{"type": "tool_use", "input": {"city": "X"}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1"}]},
            ]
        },
    ),
    refused(
        "items",
        "`function_call` without its `function_call_output`",
        body={"input": ITEMS["input"][:-1]},
        reply=error("input[5]", None),
    ),
    refused(
        "items",
        "`function_call_output` without its `function_call`",
        note="unless it goes on from a response or with `X-Conversation-Id`",
        body={"input": ITEMS["input"][-1:]},
        reply=error("input[0].call_id", None),
    ),
    honoured(
        "items",
        "`reasoning`, `web_search_call`",
        note="as in history of the Messages dialect: thinking goes back while its worker lives",
        body=ITEMS,
        upstream=given({"text": "Let me see."}, role="assistant"),
    ),
    honoured(
        "items",
        "`item_reference`",
        note="to an item of the output of a stored response",
        earlier=EARLIER,
        body={
            "input": [
                said({"type": "input_text", "text": "one"}),
                {"type": "item_reference", "id": "{item}"},
                said({"type": "input_text", "text": "two"}),
            ]
        },
        upstream=given({"text": "uno"}, role="assistant"),
    ),
    refused(
        "items",
        "`item_reference` to any other",
        body={"input": [{"type": "item_reference", "id": "msg_x"}]},
        status=404,
        reply=error("input[0].id", "item_not_found"),
    ),
    refused(
        "items",
        "any other type",
        note="the error has its name",
        body={"input": [{"type": "computer_call"}]},
        reply=error("input[0].type", message="computer_call"),
    ),
    refused(
        "items",
        "an assistant's message at the end",
        body={"input": [said({"type": "output_text", "text": "x"}, role="assistant")]},
        reply=error("input", None, message="nothing to answer"),
    ),
    honoured("parts", "`input_text`", body=ITEMS, upstream=given({"text": "Hi"})),
    honoured(
        "parts",
        "`input_image`, data",
        body=ITEMS,
        upstream=given({"type": "image", "source": {"type": "base64"}}),
    ),
    not_taken(
        "`input_image`, http",
        {"type": "input_image", "image_url": "http://x/y.png"},
        ".image_url",
        "nothing is fetched",
        code="invalid_image_url",
    ),
    honoured(
        "parts",
        "`input_file`, data",
        note="PDF or text",
        body=ITEMS,
        upstream=given({"type": "document", "source": {"data": PDF}}),
    ),
    not_taken("`input_file`, url", {"type": "input_file", "file_url": "http://x"}, ".file_url"),
    not_taken(
        "`input_file`, a wrong file",
        {"type": "input_file", "file_data": "data:application/pdf;base64,aGVsbG8="},
        ".file_data",
        "what begins like no PDF",
        code=None,
    ),
    not_taken(
        "`file_id` of an image or a file",
        {"type": "input_file", "file_id": "f"},
        ".file_id",
        "there are no uploaded files",
    ),
    not_taken("`input_audio`", {"type": "input_audio", "input_audio": {}}, ""),
    honoured(
        "parts",
        "`output_text`, `refusal`",
        body=ITEMS,
        upstream=given({"text": "Let me see."}, {"text": "Not that."}, role="assistant"),
    ),
    honoured(
        "events",
        "text",
        ask=THINKS,
        body=STREAM,
        events=(
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ),
    ),
    honoured(
        "events",
        "thinking",
        note="where a `summary` is asked for",
        ask=THINKS,
        body=STREAM,
        events=(
            "response.output_item.added",
            "response.reasoning_summary_part.added",
            "response.reasoning_summary_text.delta",
            "response.reasoning_summary_text.done",
            "response.reasoning_summary_part.done",
            "response.output_item.done",
        ),
    ),
    honoured(
        "events",
        "calls",
        ask=CALLS,
        body={"stream": True, "tools": [TOOL]},
        events=(
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
        )
        * 2,
    ),
    honoured(
        "events",
        "errors in the middle",
        ask=BREAKS_OFF,
        body={"stream": True},
        events=("response.output_text.delta", "response.failed"),
    ),
    *errors(
        unknown_model=("404 `model_not_found`", error("model", "model_not_found")),
        forbidden=("403", {"error": {"type": "permission_error"}}),
        limited=("429", {"error": {"type": "rate_limit_error"}}),
        overloaded=("503 overloaded", {"error": {"type": "server_error", "code": "overloaded"}}),
    ),
    honoured(
        "endpoints",
        "`GET /v1/responses/{id}`",
        note="not as a stream",
        method="GET",
        earlier=EARLIER,
        path=STORED,
        reply={"object": "response", "store": True, "output": [{"content": [{"text": "uno"}]}]},
    ),
    honoured(
        "endpoints",
        "`GET /v1/responses/{id}/input_items`",
        note="of that request alone",
        method="GET",
        earlier=EARLIER,
        path=f"{STORED}/input_items?limit=1&order=asc",
        reply={
            "object": "list",
            "data": ({"type": "message", "content": ({"type": "input_text", "text": "earlier"},)},),
            "has_more": False,
        },
    ),
    honoured(
        "endpoints",
        "`DELETE /v1/responses/{id}`",
        method="DELETE",
        # Not the response that others need.
        earlier="to be deleted",
        path=STORED,
        reply={"object": "response", "id": "resp_", "deleted": True},
    ),
    honoured(
        "endpoints",
        "404 `response_not_found`",
        note="under this API key",
        method="GET",
        path="/v1/responses/resp_x",
        status=404,
        reply=error("response_id", "response_not_found"),
    ),
    refused(
        "endpoints",
        "`POST /v1/responses/{id}/cancel`",
        note="there are no background responses: close the connection",
        earlier=EARLIER,
        path=f"{STORED}/cancel",
        reply=error("response_id", None),
    ),
)

RESPONSES = Dialect(
    name="responses",
    title="OpenAI Responses",
    path="/v1/responses",
    fields=tuple(FIELDS.fields),
    least=least,
    checks=CHECKS,
)
