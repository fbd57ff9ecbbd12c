"""A conversation that changes its dialect from turn to turn."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import anthropic
import openai
import pytest

from tests.end_to_end.messaging import CHAT, turns
from tests.end_to_end.running import DaemonProcess, LoopbackProcess, directive

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam


@pytest.fixture
def client(chat_daemon: DaemonProcess) -> Iterator[openai.OpenAI]:
    with chat_daemon.client() as client:
        yield client


DIALECTS = ("chat", "messages", "responses")


@pytest.mark.parametrize("begins", DIALECTS)
def test_a_conversation_changes_its_dialect(
    claude: anthropic.Anthropic,
    client: openai.OpenAI,
    chat_daemon: DaemonProcess,
    model: LoopbackProcess,
    begins: str,
) -> None:
    history: list[Any] = []
    ids = set()
    for number in range(6):
        said = f"turn {number} of {begins} {directive(text=f'answer {number}')}"
        history.append({"role": "user", "content": said})
        reply: Any
        match DIALECTS[(DIALECTS.index(begins) + number) % 3]:
            case "chat":
                system = {"role": "system", "content": "Count."}
                reply = client.chat.completions.with_raw_response.create(
                    model=CHAT, messages=[cast("ChatCompletionMessageParam", system), *history]
                )
                answer = reply.parse().choices[0].message.content
            case "messages":
                reply = claude.messages.with_raw_response.create(
                    model=CHAT, max_tokens=1024, messages=history, system="Count."
                )
                answer = reply.parse().content[0].text
            case _:
                reply = client.responses.with_raw_response.create(
                    model=CHAT, input=history, instructions="Count."
                )
                answer = reply.parse().output_text
        ids.add(reply.headers["x-conversation-id"])
        history.append({"role": "assistant", "content": answer})
    (conversation,) = ids
    chat_daemon.wait_log("turn", conversation=conversation, messages=11)
    entries = turns(chat_daemon, conversation)
    assert [entry["continued"] for entry in entries] == [False] + [True] * 5
    assert len({entry["worker"] for entry in entries}) == 1
    assert len(model.requests()) == 6
    assert len(model.conversations()[-1]) == 11
