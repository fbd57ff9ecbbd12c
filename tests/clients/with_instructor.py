"""Instructor: typed answers by functions and by schema."""

import json
import sys

import instructor
import openai
from pydantic import BaseModel

asked = json.load(sys.stdin)


class Answer(BaseModel):
    """The answer."""

    number: int
    words: list[str]


told = {}
for name, mode, prompt in (
    ("function_calling", instructor.Mode.TOOLS, asked["called"]),
    ("json_mode", instructor.Mode.JSON, asked["schema"]),
    ("json_schema", instructor.Mode.JSON_SCHEMA, asked["schema"]),
):
    client = instructor.from_openai(
        openai.OpenAI(base_url=asked["base_url"], api_key="not-needed"), mode=mode
    )
    answer = client.chat.completions.create(
        model=asked["model"],
        messages=[{"role": "user", "content": prompt}],
        response_model=Answer,
        max_retries=0,
    )
    told[f"structured_{name}"] = answer.model_dump()
json.dump(told, sys.stdout)
