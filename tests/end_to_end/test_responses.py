"""The official SDK's `responses` against the real parts."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from openai.types.responses import (
    FunctionToolParam,
    Response,
    ResponseFunctionToolCall,
    ResponseInputItemParam,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseReasoningItem,
)
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


def test_an_answer_with_a_schema_is_parsed(client: openai.OpenAI) -> None:
    asked = directive(tool="StructuredOutput", input={"name": "n", "number": 7})
    response = client.responses.parse(model=MODEL, input=asked, text_format=Answer)
    assert response.output_parsed == Answer(name="n", number=7)
    with client.responses.stream(model=MODEL, input=asked, text_format=Answer) as stream:
        assert stream.get_final_response().output_parsed == Answer(name="n", number=7)


WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "weather",
    "description": "Tells the weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}
CALLS = directive(
    replies=[
        {
            "blocks": [
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "name": "mcp__client__weather", "input": {"city": "Rome"}},
                {"type": "tool_use", "name": "mcp__client__weather", "input": {"city": "Oslo"}},
            ]
        },
        {"text": "Sun and snow."},
    ]
)


def outputs_of(response: Response) -> list[ResponseInputItemParam]:
    """What the client's functions bring."""
    calls = [item for item in response.output if isinstance(item, ResponseFunctionToolCall)]
    assert [json.loads(call.arguments)["city"] for call in calls] == ["Rome", "Oslo"]
    assert {(call.name, call.status) for call in calls} == {("weather", "completed")}
    return [
        {"type": "function_call_output", "call_id": call.call_id, "output": f"result {number}"}
        for number, call in enumerate(calls)
    ]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("by_id", [False, True])
def test_a_tool_loop_takes_one_process(
    daemon: DaemonProcess, model: LoopbackProcess, by_id: bool, stream: bool
) -> None:
    given: list[ResponseInputItemParam] = [{"role": "user", "content": CALLS}]
    with daemon.client() as client:

        def ask(items: list[ResponseInputItemParam], previous: str | None) -> Response:
            if not stream:
                return client.responses.create(
                    model=MODEL, input=items, tools=[WEATHER], previous_response_id=previous
                )
            with client.responses.stream(
                model=MODEL,
                input=items,
                tools=[WEATHER],
                previous_response_id=previous if previous is not None else openai.omit,
            ) as events:
                return events.get_final_response()

        first = ask(given, None)
        assert first.output_text == "Let me see."
        assert first.status == "completed"
        brought = outputs_of(first)
        if by_id:
            last = ask(brought, first.id)
        else:
            # As the SDK's documentation does it: its own objects are handed back.
            given += [item.to_dict() for item in first.output]  # type: ignore[misc]
            last = ask([*given, *brought], None)
        assert last.output_text == "Sun and snow."
    said = model.requests()[-1]["body"]["messages"]
    results = [block for block in said[-1]["content"] if block["type"] == "tool_result"]
    assert [result["content"][0]["text"] for result in results] == ["result 0", "result 1"]
    workers = [daemon.wait_log("turn")["worker"] for _ in range(2)]
    assert workers[0] == workers[1]


def test_thinking_is_a_summary_where_it_is_asked_for(client: openai.OpenAI) -> None:
    asked = directive(thinking="Hm hm.", text="yes")
    response = client.responses.create(
        model=MODEL,
        input=asked,
        reasoning={"effort": "high", "summary": "auto"},
        include=["reasoning.encrypted_content"],
    )
    thought, answer = response.output
    assert isinstance(thought, ResponseReasoningItem)
    assert thought.summary[0].text == "Hm hm."
    assert thought.encrypted_content
    assert answer.type == "message"
    told = client.responses.create(
        model=MODEL, input=asked, reasoning={"summary": "auto"}, stream=True
    )
    kinds = [event.type for event in told if "reasoning" in event.type]
    assert kinds == [
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
    ]
    plain = client.responses.create(model=MODEL, input=asked)
    assert [item.type for item in plain.output] == ["message"]


def test_a_conversation_goes_on_in_the_other_dialect(
    daemon: DaemonProcess, model: LoopbackProcess
) -> None:
    words = [f"{number} {directive(text=f'answer {number}')}" for number in range(3)]
    with daemon.client() as client:
        chat = client.chat.completions.create(
            model=MODEL,
            messages=[
                {"role": "system", "content": "Count."},
                {"role": "user", "content": words[0]},
            ],
        )
        assert chat.choices[0].message.content == "answer 0"
        response = client.responses.create(
            model=MODEL,
            instructions="Count.",
            input=[
                {"role": "user", "content": words[0]},
                {"role": "assistant", "content": "answer 0"},
                {"role": "user", "content": words[1]},
            ],
        )
        assert response.output_text == "answer 1"
        chat = client.chat.completions.create(
            model=MODEL,
            messages=[
                {"role": "system", "content": "Count."},
                {"role": "user", "content": words[0]},
                {"role": "assistant", "content": "answer 0"},
                {"role": "user", "content": words[1]},
                {"role": "assistant", "content": "answer 1"},
                {"role": "user", "content": words[2]},
            ],
        )
        assert chat.choices[0].message.content == "answer 2"
    assert [len(messages) for messages in model.conversations()] == [1, 3, 5]
    turns = [daemon.wait_log("turn") for _ in range(3)]
    assert [turn["continued"] for turn in turns] == [False, True, True]
    assert len({turn["worker"] for turn in turns}) == 1


def test_an_answer_that_is_too_long_is_cut(client: openai.OpenAI) -> None:
    asked = directive(words=2000, pace=0.001)
    response = client.responses.create(model=MODEL, input=asked, max_output_tokens=20)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert len(response.output_text.split()) < 200
    assert client.responses.retrieve(response.id) == response


def test_an_item_may_be_named_instead_of_sent(
    client: openai.OpenAI, model: LoopbackProcess
) -> None:
    first = client.responses.create(model=MODEL, input=f"one {directive(text='uno')}")
    reference: ResponseInputItemParam = {
        "type": "item_reference",
        "id": first.output[0].id or "",
    }
    client.responses.create(
        model=MODEL,
        input=[{"role": "user", "content": "one"}, reference, {"role": "user", "content": "two"}],
    )
    assert model.conversations()[-1] == [("user", "one"), ("assistant", "uno"), ("user", "two")]


def test_a_stream_that_breaks_ends_in_failed(client: openai.OpenAI) -> None:
    asked = directive(words=20, pace=0.2, error={"status": 529, "after": 5})
    told = list(client.responses.create(model=MODEL, input=asked, stream=True))
    last = told[-1]
    assert last.type == "response.failed"
    assert last.response.status == "failed"
    assert last.response.error is not None
    assert last.response.error.code
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(last.response.id)


def test_the_agent_searches_by_itself(client: openai.OpenAI) -> None:
    response = client.responses.create(
        model="sonnet", input=directive(text="found"), tools=[{"type": "web_search"}]
    )
    assert response.output_text == "found"
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=MODEL, input="x", tools=[{"type": "web_search"}])
    assert caught.value.param == "tools"


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"input": [{"type": "computer_call"}]}, 400, "input[0].type"),
        ({"input": 5}, 400, "input"),
        ({"tools": [{"type": "file_search"}]}, 400, "tools[0].type"),
        ({"background": True}, 400, "background"),
        ({"model": "none"}, 404, "model"),
        ({"input": [{"type": "item_reference", "id": "msg_x"}]}, 404, "input[0].id"),
        ({"previous_response_id": "resp_" + "0" * 40}, 404, "previous_response_id"),
    ],
)
def test_a_refusal_has_all_four_keys(
    shared_daemon: DaemonProcess, fields: dict[str, object], status: int, param: str
) -> None:
    body = {"model": MODEL, "input": "x", **fields}
    reply = httpx.post(f"{shared_daemon.base_url}/v1/responses", json=body)
    assert reply.status_code == status
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "limit=101", "limit=" + "9" * 5000, "order=up"]
)
def test_a_listing_refuses_what_it_does_not_know(shared_daemon: DaemonProcess, query: str) -> None:
    url = f"{shared_daemon.base_url}/v1/responses/resp_x/input_items?{query}"
    assert httpx.get(url).status_code == 400
