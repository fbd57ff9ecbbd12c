"""Every top-level field of a Messages request, and what becomes of it."""

from typing import Final

from maxd.http.field_table import Field, FieldTable, Use, empty

FIELDS: Final = FieldTable(
    {
        "model": Field(Use.HONOURED),
        "messages": Field(Use.HONOURED),
        "max_tokens": Field(
            Use.HONOURED,
            "required; the answer is cut there by an estimate, and thinking does not count",
        ),
        "system": Field(Use.HONOURED),
        "stream": Field(Use.HONOURED),
        "stop_sequences": Field(Use.HONOURED),
        "tools": Field(
            Use.HONOURED,
            "those with an `input_schema`; `web_search_…` where the profile has the CLI's own "
            "tools and no others are given; any other tool of Anthropic's is refused by its name",
        ),
        "tool_choice": Field(Use.HONOURED, "`disable_parallel_tool_use` too"),
        "thinking": Field(
            Use.HONOURED,
            "shows the model's thinking; `disabled` is effort `none`, `budget_tokens` up to 4,096 "
            "is `low`, up to 16,384 `medium`, above `high`",
        ),
        "output_config": Field(
            Use.HONOURED, "`format` (`json_schema`) and `effort`, which outranks `budget_tokens`"
        ),
        "output_format": Field(Use.HONOURED, "`json_schema`"),
        "mcp_servers": Field(Use.REFUSED, "add MCP servers to the CLI's own settings", empty),
        "container": Field(Use.REFUSED, "there are no containers here"),
        "thread": Field(Use.REFUSED, "send the messages, or an X-Conversation-Id header"),
        "metadata": Field(Use.IGNORED),
        "temperature": Field(Use.IGNORED),
        "top_p": Field(Use.IGNORED),
        "top_k": Field(Use.IGNORED),
        "service_tier": Field(Use.IGNORED),
        "speed": Field(Use.IGNORED),
        "inference_geo": Field(Use.IGNORED),
        "cache_control": Field(Use.IGNORED, "the CLI marks by itself what is to be cached"),
        "context_management": Field(Use.IGNORED),
        "compaction": Field(Use.IGNORED),
        "fallbacks": Field(Use.IGNORED),
        "fallback_credit_token": Field(Use.IGNORED),
        "billing_policy": Field(Use.IGNORED),
        "diagnostics": Field(Use.IGNORED),
        "user_profile_id": Field(Use.IGNORED),
        "workspace_id": Field(Use.IGNORED),
    }
)
