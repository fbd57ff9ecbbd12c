"""LiteLLM's `completion`: a tool loop, a schema, streaming."""

import json
import sys
from typing import Any

import litellm
from pydantic import BaseModel

asked = json.load(sys.stdin)
litellm.suppress_debug_info = True


class Answer(BaseModel):
    number: int
    words: list[str]


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Tells the weather.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]


def complete(messages: list[Any], **fields: Any) -> Any:
    return litellm.completion(
        model=f"openai/{asked['model']}",
        api_base=asked["base_url"],
        api_key="not-needed",
        messages=messages,
        **fields,
    )


def loop(stream: bool) -> str:
    messages: list[Any] = [{"role": "user", "content": asked["tools"]}]
    while True:
        reply = complete(messages, tools=TOOLS, stream=stream)
        if stream:
            reply = litellm.stream_chunk_builder(list(reply), messages=messages)
        message = reply.choices[0].message
        messages.append(message.model_dump())
        if reply.choices[0].finish_reason != "tool_calls":
            return str(message.content)
        for call in message.tool_calls:
            city = json.loads(call.function.arguments)["city"]
            messages.append(
                {"role": "tool", "tool_call_id": call.id, "content": f"It rains in {city}."}
            )


told: dict[str, Any] = {"tools": loop(stream=False), "tools_streamed": loop(stream=True)}
reply = complete([{"role": "user", "content": asked["schema"]}], response_format=Answer)
told["structured_json_schema"] = json.loads(reply.choices[0].message.content)
stream = complete([{"role": "user", "content": asked["words"]}], stream=True)
told["text_streamed"] = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
json.dump(told, sys.stdout)
