"""Every top-level field of a Responses request, and what becomes of it."""

from typing import Final

from maxd.http.field_table import Field, FieldTable, Use

FIELDS: Final = FieldTable(
    {
        "model": Field(Use.HONOURED),
        "input": Field(
            Use.HONOURED,
            "a text, or items: `message`, `function_call`, `function_call_output`, `reasoning`, "
            "`web_search_call`, `item_reference`",
        ),
        "instructions": Field(Use.HONOURED, "not carried over by `previous_response_id`"),
        "previous_response_id": Field(Use.HONOURED),
        "store": Field(Use.HONOURED, "`true` unless `responses.keep_days` is 0"),
        "stream": Field(Use.HONOURED),
        "tools": Field(
            Use.HONOURED,
            "functions (`strict` has no effect); `web_search` where the profile has the CLI's own "
            "tools and there are no functions; others are refused by their name",
        ),
        "tool_choice": Field(Use.HONOURED, "`auto`, `none`, `required`, a function, allowed tools"),
        "parallel_tool_calls": Field(Use.HONOURED),
        "text": Field(
            Use.HONOURED, "`format` text, json_schema, json_object; `verbosity` has no effect"
        ),
        "reasoning": Field(
            Use.HONOURED,
            "`effort`; with a `summary` the model's thinking is sent as one; `mode` and `context` "
            "have no effect",
        ),
        "max_output_tokens": Field(Use.HONOURED),
        "metadata": Field(Use.HONOURED, "given back"),
        "include": Field(
            Use.HONOURED, "`reasoning.encrypted_content`; logprobs are refused, others are empty"
        ),
        "background": Field(
            Use.REFUSED, "not supported; stream the response", lambda value: value is False
        ),
        "conversation": Field(Use.REFUSED, "use `previous_response_id`"),
        "prompt": Field(Use.REFUSED, "there are no stored prompts"),
        "moderation": Field(Use.REFUSED, "there is none"),
        "top_logprobs": Field(Use.REFUSED, "the service has none", lambda value: value == 0),
        "temperature": Field(Use.IGNORED),
        "top_p": Field(Use.IGNORED),
        "truncation": Field(Use.IGNORED, "what does not fit is refused, or compacted by the CLI"),
        "max_tool_calls": Field(Use.IGNORED),
        "context_management": Field(Use.IGNORED),
        "stream_options": Field(Use.IGNORED, "nothing is obfuscated"),
        "user": Field(Use.IGNORED),
        "safety_identifier": Field(Use.IGNORED),
        "prompt_cache_key": Field(Use.IGNORED),
        "prompt_cache_retention": Field(Use.IGNORED),
        "prompt_cache_options": Field(Use.IGNORED),
        "service_tier": Field(Use.IGNORED),
        "image": Field(Use.IGNORED),
    }
)
