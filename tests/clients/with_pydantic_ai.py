"""Pydantic AI: an agent with a tool, its three ways to a typed answer, streaming."""

import asyncio
import json
import sys
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

asked = json.load(sys.stdin)
model = OpenAIChatModel(
    asked["model"], provider=OpenAIProvider(base_url=asked["base_url"], api_key="not-needed")
)


class Answer(BaseModel):
    """The answer."""

    number: int
    words: list[str]


agent = Agent(model)


@agent.tool_plain
def get_weather(city: str) -> str:
    """Tells the weather."""
    return f"It rains in {city}."


async def main() -> dict[str, Any]:
    told: dict[str, Any] = {"tools": (await agent.run(asked["tools"])).output}
    async with agent.run_stream(asked["tools_without_text"]) as stream:
        told["tools_streamed"] = await stream.get_output()
    ways = {
        "json_schema": (NativeOutput(Answer), asked["schema"]),
        "function_calling": (ToolOutput(Answer, name="Answer"), asked["called"]),
        "json_mode": (PromptedOutput(Answer), asked["schema"]),
    }
    for name, (output, prompt) in ways.items():
        typed: Any = Agent(model, output_type=output)
        told[f"structured_{name}"] = (await typed.run(prompt)).output.model_dump()
    async with Agent(model).run_stream(asked["words"]) as text:
        told["text_streamed"] = "".join([piece async for piece in text.stream_text(delta=True)])
    return told


json.dump(asyncio.run(main()), sys.stdout)
