"""A client of the chat dialect that goes on with its conversation."""

from typing import TYPE_CHECKING

import openai

from tests.end_to_end.running import directive

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

MODEL = "sonnet:chat"


class Chat:
    """A client that sends the whole conversation each time, as OpenAI's do."""

    def __init__(
        self, client: openai.OpenAI, *, model: str = MODEL, system: str | None = None
    ) -> None:
        self._client = client
        self._model = model
        self.messages: list[ChatCompletionMessageParam] = []
        if system is not None:
            self.messages.append({"role": "system", "content": system})

    def say(self, text: str, answer: str) -> str:
        self.messages.append({"role": "user", "content": f"{text} {directive(text=answer)}"})
        completion = self._client.chat.completions.create(model=self._model, messages=self.messages)
        got = completion.choices[0].message.content or ""
        self.messages.append({"role": "assistant", "content": got})
        return got

    @property
    def spoken(self) -> list[tuple[str, str]]:
        """What the model must have been given for the last turn."""
        asked = [m for m in self.messages[:-1] if m["role"] != "system"]
        return [(m["role"], str(m.get("content"))) for m in asked]
