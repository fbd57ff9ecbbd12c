"""A conversation goes on in the process that holds it, and only there."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import openai
import psutil
import pytest

from tests.end_to_end.chatting import MODEL, Chat
from tests.end_to_end.running import DaemonProcess, LoopbackProcess, directive

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam


@pytest.fixture
def daemon(tmp_path: Path, model: LoopbackProcess) -> Iterator[DaemonProcess]:
    with DaemonProcess(tmp_path, model.base_url, {"MAXD_POOL_WARM": MODEL}) as daemon:
        daemon.wait_serving()
        yield daemon
        assert daemon.stop() == 0


def turns(daemon: DaemonProcess) -> list[dict[str, object]]:
    return [entry for entry in daemon.log if entry["event"] == "turn"]


def test_ten_turns_take_one_process(daemon: DaemonProcess, model: LoopbackProcess) -> None:
    with daemon.client() as client:
        chat = Chat(client, system="Count.")
        given = []
        for number in range(10):
            assert chat.say(f"turn {number}", f"answer {number}") == f"answer {number}"
            given.append(chat.spoken)
    assert model.conversations() == given, "ten requests, each with exactly the client's messages"
    for _ in range(10):
        daemon.wait_log("turn")
    assert len({entry["worker"] for entry in turns(daemon)}) == 1
    assert [entry["continued"] for entry in turns(daemon)] == [False] + [True] * 9


def test_clothes_do_not_matter(daemon: DaemonProcess) -> None:
    with daemon.client() as client:
        chat = Chat(client)
        chat.say("one  ", "uno ")
        said = str(chat.messages[0].get("content"))
        chat.messages = [
            {"role": "user", "content": [{"type": "text", "text": said}]},
            {"role": "assistant", "content": [{"type": "text", "text": "uno"}]},
        ]
        chat.say("two", "dos")
    daemon.wait_log("turn")
    assert daemon.wait_log("turn")["continued"] is True


@pytest.mark.parametrize("change", ["edit", "regenerate", "delete", "system", "model", "other key"])
def test_another_history_is_answered_from_itself(
    daemon: DaemonProcess, model: LoopbackProcess, change: str
) -> None:
    with daemon.client() as client, daemon.client(api_key="another") as stranger:
        chat = Chat(client, system="Be brief.")
        for number in range(3):
            chat.say(f"turn {number}", f"answer {number}")
        match change:
            case "edit":
                chat.messages[1]["content"] = f"edited {directive(text='x')}"
            case "regenerate":
                del chat.messages[-2:]
            case "delete":
                del chat.messages[-4:]
            case "system":
                chat.messages[0]["content"] = "Be long."
            case "model":
                chat._model = "haiku:chat"
            case _:
                chat._client = stranger
        assert chat.say("last", "the end") == "the end"
    assert model.conversations()[-1] == chat.spoken
    system = model.requests()[-1]["body"]["system"][-1]["text"]
    assert system == chat.messages[0].get("content")
    assert [daemon.wait_log("turn")["continued"] for _ in range(4)] == [False, True, True, False]


def test_one_head_is_claimed_by_one_of_two_at_once(
    daemon: DaemonProcess, model: LoopbackProcess
) -> None:
    with daemon.client() as client:
        chat = Chat(client)
        chat.say("first", "one")
        model.forget()
        chats = []
        for name in ("left", "right"):
            branch = Chat(client)
            branch.messages = list(chat.messages)
            chats.append((branch, name))
        with ThreadPoolExecutor(2) as threads:
            answers = list(threads.map(lambda c: c[0].say(c[1], f"you said {c[1]}"), chats))
    assert answers == ["you said left", "you said right"]
    assert sorted(model.conversations()) == sorted(branch.spoken for branch, _ in chats)
    continued = [daemon.wait_log("turn")["continued"] for _ in range(3)]
    assert sorted(continued[1:]) == [False, True]
    assert not continued[0]


def test_equal_beginnings_never_meet(daemon: DaemonProcess, model: LoopbackProcess) -> None:
    rounds = 50
    with daemon.client() as client:
        chats = [Chat(client), Chat(client)]
        for chat in chats:
            chat.say("the same", "the same")
        barrier = threading.Barrier(2)

        def go(index: int) -> None:
            for number in range(rounds):
                barrier.wait(60)
                chats[index].say(f"canary-{index} {number}", f"seen canary-{index}")

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(go, range(2)))
    conversations = model.conversations()[2:]
    assert len(conversations) == 2 * rounds
    for conversation in conversations:
        text = str(conversation)
        assert ("canary-0" in text) != ("canary-1" in text)
    assert len({entry["worker"] for entry in turns(daemon)}) <= 4


@pytest.mark.parametrize("stream", [False, True])
def test_a_worker_killed_between_turns_loses_nothing(
    daemon: DaemonProcess, model: LoopbackProcess, stream: bool
) -> None:
    with daemon.client() as client:
        chat = Chat(client)
        chat.say("first", "one")
        worker = daemon.wait_log("turn")["worker"]
        (ready,) = [e for e in daemon.log if e.get("worker") == worker and "pid" in e]
        psutil.Process(ready["pid"]).kill()
        assert chat.say("second", "two") == "two"
    assert model.conversations()[-1] == chat.spoken


def test_an_unfinished_turn_is_not_continued(daemon: DaemonProcess, model: LoopbackProcess) -> None:
    with daemon.client() as client:
        prompt = directive(words=500, pace=0.05)
        history: list[ChatCompletionMessageParam] = [{"role": "user", "content": prompt}]
        stream = client.chat.completions.create(model=MODEL, messages=history, stream=True)
        text = ""
        for chunk in stream:
            text += chunk.choices[0].delta.content or ""
            if len(text) > 20:
                break
        stream.close()
        history += [{"role": "assistant", "content": text}]
        chat = Chat(client)
        chat.messages = history
        chat.say("go on", "yes")
    assert [daemon.wait_log("turn")["continued"] for _ in range(2)] == [False, False]
    assert model.conversations()[-1] == chat.spoken


def ask_only(client: openai.OpenAI, conversation: str, text: str) -> tuple[str | None, str]:
    """Send one new message of a conversation; the reply, and the conversation's id on it."""
    reply = client.chat.completions.with_raw_response.create(
        model=MODEL,
        messages=[{"role": "user", "content": text}],
        extra_headers={"X-Conversation-Id": conversation},
    )
    content = reply.parse().choices[0].message.content
    return content, reply.headers["x-conversation-id"]


def test_an_explicit_id_needs_the_new_messages_only(
    daemon: DaemonProcess, model: LoopbackProcess
) -> None:
    with daemon.client() as client:
        for number in range(3):
            said = directive(text=f"answer {number}")
            assert ask_only(client, "my-chat", said) == (f"answer {number}", "my-chat")
    assert [len(messages) for messages in model.conversations()] == [1, 3, 5]
    assert model.conversations()[2][1] == ("assistant", "answer 0")
    assert [daemon.wait_log("turn")["continued"] for _ in range(3)] == [False, True, True]


def test_an_id_is_one_keys_own(daemon: DaemonProcess, model: LoopbackProcess) -> None:
    with daemon.client(api_key="one") as one, daemon.client(api_key="other") as other:
        ask_only(one, "same", directive(text="to one"))
        ask_only(other, "same", directive(text="to the other"))
    assert [len(messages) for messages in model.conversations()] == [1, 1]


def test_an_id_with_another_history_follows_the_history(
    daemon: DaemonProcess, model: LoopbackProcess
) -> None:
    with daemon.client() as client:
        ask_only(client, "my-chat", directive(text="first"))
        client.chat.completions.create(
            model=MODEL,
            messages=[
                {"role": "user", "content": "something else"},
                {"role": "assistant", "content": "indeed"},
                {"role": "user", "content": directive(text="forked")},
            ],
            extra_headers={"X-Conversation-Id": "my-chat"},
        )
        ask_only(client, "my-chat", "and now?")
    fork = model.conversations()[1]
    assert [text for _, text in fork[:2]] == ["something else", "indeed"]
    assert model.conversations()[2] == [*fork, ("assistant", "forked"), ("user", "and now?")]


def test_the_id_of_a_conversation_is_on_every_reply(daemon: DaemonProcess) -> None:
    with daemon.client() as client:
        chat = Chat(client)
        ids = []
        for number in range(2):
            chat.messages.append({"role": "user", "content": directive(text=f"{number}")})
            reply = client.chat.completions.with_raw_response.create(
                model=MODEL, messages=chat.messages
            )
            chat.messages.append({"role": "assistant", "content": f"{number}"})
            ids.append(reply.headers["x-conversation-id"])
        assert ids[0] == ids[1]
        assert ask_only(client, ids[0], directive(text="three"))[1] == ids[0]
        with pytest.raises(openai.BadRequestError):
            ask_only(client, "no spaces", "hi")


def test_an_id_whose_context_is_gone_is_refused(daemon: DaemonProcess) -> None:
    with daemon.client() as client:
        ask_only(client, "my-chat", directive(text="first"))
        worker = daemon.wait_log("turn")["worker"]
        (ready,) = [e for e in daemon.log if e.get("worker") == worker and "pid" in e]
        psutil.Process(ready["pid"]).kill()
        daemon.wait_log("worker died")
        with pytest.raises(openai.NotFoundError) as caught:
            ask_only(client, "my-chat", "second")
        assert caught.value.code == "conversation_gone"
        client.chat.completions.create(
            model=MODEL,
            messages=[
                {"role": "user", "content": directive(text="first")},
                {"role": "assistant", "content": "first"},
                {"role": "user", "content": directive(text="again")},
            ],
            extra_headers={"X-Conversation-Id": "my-chat"},
        )
        assert ask_only(client, "my-chat", directive(text="third"))[0] == "third"
