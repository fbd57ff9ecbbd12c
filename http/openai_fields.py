"""Every top-level field of a chat completion request, and what becomes of it."""

from typing import Final

from maxd.http.field_table import Field, FieldTable, Use, empty

FIELDS: Final = FieldTable(
    {
        "messages": Field(Use.HONOURED),
        "model": Field(Use.HONOURED),
        "stream": Field(Use.HONOURED),
        "stream_options": Field(Use.HONOURED, "`include_usage`"),
        "tools": Field(
            Use.HONOURED, "functions; `strict` is accepted, the model is not held to it"
        ),
        "tool_choice": Field(
            Use.HONOURED, "`none`, `auto`, `required`, one function, `allowed_tools`"
        ),
        "parallel_tool_calls": Field(Use.HONOURED),
        "response_format": Field(Use.HONOURED, "`text`, `json_object`, `json_schema`"),
        "reasoning_effort": Field(Use.HONOURED, "`none` to `max`; `minimal` is `low`"),
        "max_tokens": Field(
            Use.POST_PROCESSED, "the answer is cut there by an estimate; thinking does not count"
        ),
        "max_completion_tokens": Field(Use.POST_PROCESSED, "as `max_tokens`; the lower of both"),
        "stop": Field(Use.POST_PROCESSED, "up to 16 texts; the answer is cut before the first"),
        "verbosity": Field(Use.POST_PROCESSED, "a sentence in the system message"),
        "n": Field(Use.REFUSED, "only 1", lambda value: value == 1),
        "functions": Field(Use.REFUSED, "use `tools`", empty),
        "function_call": Field(Use.REFUSED, "use `tools`", lambda value: value in ("none", "auto")),
        "logprobs": Field(Use.REFUSED, "the service has none", lambda value: value is False),
        "top_logprobs": Field(Use.REFUSED, "the service has none", lambda value: value == 0),
        "logit_bias": Field(Use.REFUSED, "the service has none", empty),
        "audio": Field(Use.REFUSED, "no audio in or out"),
        "modalities": Field(Use.REFUSED, 'only `["text"]`', lambda value: value == ["text"]),
        "web_search_options": Field(Use.REFUSED, "the agent profile searches by itself"),
        "temperature": Field(Use.IGNORED),
        "top_p": Field(Use.IGNORED),
        "presence_penalty": Field(Use.IGNORED),
        "frequency_penalty": Field(Use.IGNORED),
        "seed": Field(Use.IGNORED),
        "user": Field(Use.IGNORED),
        "safety_identifier": Field(Use.IGNORED),
        "metadata": Field(Use.IGNORED),
        "store": Field(Use.IGNORED),
        "prompt_cache_key": Field(Use.IGNORED),
        "prompt_cache_retention": Field(Use.IGNORED),
        "service_tier": Field(Use.IGNORED),
        "prediction": Field(Use.IGNORED),
    }
)
