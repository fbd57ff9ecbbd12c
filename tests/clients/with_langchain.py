"""LangChain's ChatOpenAI: bind_tools, with_structured_output in its three ways, streaming."""

import json
import sys
from typing import Any

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

asked = json.load(sys.stdin)


class Answer(BaseModel):
    """The answer."""

    number: int
    words: list[str]


@tool
def get_weather(city: str) -> str:
    """Tells the weather."""
    return f"It rains in {city}."


model = ChatOpenAI(
    model=asked["model"], base_url=asked["base_url"], api_key="not-needed", max_retries=0
)
bound = model.bind_tools([get_weather])


def loop(stream: bool) -> str:
    messages: list[Any] = [HumanMessage(asked["tools"])]
    while True:
        if stream:
            reply: Any = None
            for chunk in bound.stream(messages):
                reply = chunk if reply is None else reply + chunk
        else:
            reply = bound.invoke(messages)
        messages.append(reply)
        if not reply.tool_calls:
            return str(reply.content)
        for call in reply.tool_calls:
            messages.append(ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]))


told = {"tools": loop(stream=False), "tools_streamed": loop(stream=True)}
for method in ("json_schema", "function_calling", "json_mode"):
    prompt = asked["called"] if method == "function_calling" else asked["schema"]
    structured = model.with_structured_output(Answer, method=method)
    told[f"structured_{method}"] = structured.invoke(prompt).model_dump()
told["text_streamed"] = "".join(str(chunk.content) for chunk in model.stream(asked["words"]))
json.dump(told, sys.stdout)
