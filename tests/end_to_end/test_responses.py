"""The official SDK's `responses` against the real parts."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai.types.responses import ResponseOutputMessage, ResponseOutputText
from pydantic import BaseModel

from tests.end_to_end.running import DaemonProcess, LoopbackProcess, directive

MODEL = "sonnet:chat"


@pytest.fixture
def daemon(tmp_path: Path, model: LoopbackProcess) -> Iterator[DaemonProcess]:
    with DaemonProcess(tmp_path, model.base_url, {"MAXD_POOL_WARM": MODEL}) as daemon:
        daemon.wait_serving()
        yield daemon
        assert daemon.stop() == 0


def test_a_text_is_answered_with_typed_objects(client: openai.OpenAI) -> None:
    response = client.responses.create(
        model=MODEL,
        input=directive(text="two words"),
        instructions="Be brief.",
        metadata={"a": "b"},
    )
    assert response.output_text == "two words"
    (item,) = response.output
    assert isinstance(item, ResponseOutputMessage)
    assert isinstance(item.content[0], ResponseOutputText)
    assert (item.status, item.role, item.content[0].annotations) == ("completed", "assistant", [])
    assert (response.status, response.object, response.error) == ("completed", "response", None)
    assert response.metadata == {"a": "b"}
    assert response.instructions == "Be brief."
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert client.responses.retrieve(response.id) == response


def test_a_stream_has_every_event_in_order(client: openai.OpenAI) -> None:
    told = list(client.responses.create(model=MODEL, input=directive(text="a b"), stream=True))
    kinds = [event.type for event in told if event.type != "response.output_text.delta"]
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in told] == list(range(len(told)))
    text = "".join(event.delta for event in told if event.type == "response.output_text.delta")
    assert text == "a b"


def test_the_sdks_stream_helper_understands_it(client: openai.OpenAI) -> None:
    with client.responses.stream(model=MODEL, input=directive(text="a b c")) as stream:
        final = stream.get_final_response()
    assert final.output_text == "a b c"
    assert client.responses.retrieve(final.id).output_text == "a b c"


def test_a_chain_takes_one_process_and_may_branch(
    daemon: DaemonProcess, model: LoopbackProcess
) -> None:
    with daemon.client() as client:
        first = client.responses.create(model=MODEL, input=f"one {directive(text='uno')}")
        second = client.responses.create(
            model=MODEL,
            input=f"two {directive(text='dos')}",
            previous_response_id=first.id,
        )
        third = client.responses.create(
            model=MODEL,
            input=f"three {directive(text='tres')}",
            previous_response_id=second.id,
        )
        branch = client.responses.create(
            model=MODEL,
            input=f"other {directive(text='otro')}",
            previous_response_id=first.id,
        )
    assert [r.output_text for r in (second, third, branch)] == ["dos", "tres", "otro"]
    said = model.conversations()
    assert [len(messages) for messages in said] == [1, 3, 5, 3]
    assert said[2][3] == ("assistant", "dos")
    assert said[3][:2] == said[2][:2]
    turns = [daemon.wait_log("turn") for _ in range(4)]
    assert [turn["continued"] for turn in turns] == [False, True, True, False]
    assert len({turn["worker"] for turn in turns[:3]}) == 1


def test_it_is_all_there_after_a_restart(tmp_path: Path, model: LoopbackProcess) -> None:
    with DaemonProcess(tmp_path, model.base_url) as daemon:
        with daemon.wait_serving().client() as client:
            first = client.responses.create(model=MODEL, input=f"one {directive(text='uno')}")
        # Without a goodbye: what the client was told is kept.
        daemon.process.kill()
        daemon.wait()
    (file,) = (tmp_path / "state").glob("replies.sqlite")
    assert file.stat().st_mode & 0o777 == 0o600
    with DaemonProcess(tmp_path, model.base_url) as daemon:
        with daemon.wait_serving().client() as client:
            assert client.responses.retrieve(first.id).output_text == "uno"
            second = client.responses.create(
                model=MODEL, input=directive(text="dos"), previous_response_id=first.id
            )
            assert second.output_text == "dos"
        assert daemon.stop() == 0
    assert model.conversations()[-1][1] == ("assistant", "uno")


def test_what_is_stored_is_one_keys_own(shared_daemon: DaemonProcess) -> None:
    with shared_daemon.client(api_key="a") as one, shared_daemon.client(api_key="b") as other:
        response = one.responses.create(model=MODEL, input="mine")
        unstored = one.responses.create(model=MODEL, input="unstored", store=False)
        assert unstored.to_dict()["store"] is False
        for client, name in ((other, response.id), (one, unstored.id), (one, "resp_x")):
            with pytest.raises(openai.NotFoundError) as caught:
                client.responses.retrieve(name)
            assert caught.value.code == "response_not_found"
            with pytest.raises(openai.NotFoundError):
                client.responses.delete(name)
            with pytest.raises(openai.NotFoundError):
                client.responses.cancel(name)
            with pytest.raises(openai.NotFoundError) as caught:
                client.responses.create(model=MODEL, input="x", previous_response_id=name)
            assert caught.value.code == "previous_response_not_found"
            assert caught.value.param == "previous_response_id"
        with pytest.raises(openai.BadRequestError):
            one.responses.cancel(response.id)
        items = one.responses.input_items.list(response.id)
        assert [item.type for item in items] == ["message"]
        one.responses.delete(response.id)
        with pytest.raises(openai.NotFoundError):
            one.responses.retrieve(response.id)


class Answer(BaseModel):
    name: str
    number: int
