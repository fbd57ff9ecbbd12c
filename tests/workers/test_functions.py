"""The client's functions as an MCP server: what the CLI asks, and what it is told."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from maxd.workers.functions import (
    DESCRIPTION_LIMIT,
    PREFIX,
    RESULT_LIMIT,
    FunctionServer,
    Names,
    answerable,
    called_in,
    new_call_id,
)
from maxd.workers.turn import (
    Document,
    Function,
    Image,
    Message,
    Text,
    ToolCall,
    ToolChoice,
    ToolResult,
)

SCHEMA = '{"type":"object","properties":{"city":{"type":"string"}},"$schema":"x"}'
WEATHER = Function("get_weather", "Tells the weather.", SCHEMA)
CLOCK = Function("clock", "Tells the time.", '{"type":"object"}')


def ask(server: FunctionServer, request_id: str = "q1", **message: object) -> Any:
    """What the CLI is answered; None while it has to wait."""
    written = server.handle(request_id, Raw(msgspec.json.encode({"jsonrpc": "2.0", **message})))
    if not written:
        return None
    (line,) = written.splitlines()
    response = json.loads(line)["response"]
    assert (response["subtype"], response["request_id"]) == ("success", request_id)
    return response["response"]["mcp_response"]


def asked_for(tool_use_id: str) -> dict[str, Any]:
    meta = {"claudecode/toolUseId": tool_use_id, "progressToken": 2}
    return {
        "method": "tools/call",
        "id": f"rpc-{tool_use_id}",
        "params": {"name": "x", "arguments": {}, "_meta": meta},
    }


def results_of(written: bytes) -> dict[str, Any]:
    """By the id of the RPC: what was answered."""
    replies = [json.loads(line)["response"]["response"] for line in written.splitlines()]
    return {reply["mcp_response"]["id"]: reply["mcp_response"]["result"] for reply in replies}


def test_it_introduces_itself_in_the_clis_own_version() -> None:
    server = FunctionServer([WEATHER])
    reply = ask(server, method="initialize", id=0, params={"protocolVersion": "2025-11-25"})
    assert reply["id"] == 0
    assert reply["result"]["protocolVersion"] == "2025-11-25"
    assert reply["result"]["capabilities"] == {"tools": {}}
    assert ask(server, method="notifications/initialized")["result"] == {}
    assert ask(server, method="ping", id=7)["id"] == 7
    assert ask(server, method="resources/list", id=8)["error"]["code"] == -32601


@pytest.mark.parametrize("message", ["null", "[]", '{"id": 1}', '{"method": 5}'])
def test_what_is_no_rpc_is_answered_with_an_error(message: str) -> None:
    (line,) = FunctionServer([]).handle("q", Raw(message.encode())).splitlines()
    assert json.loads(line)["response"]["response"]["mcp_response"]["error"]["code"] == -32600


def test_functions_are_listed_with_their_schemas_as_sent() -> None:
    server = FunctionServer([WEATHER, CLOCK])
    tools = ask(server, method="tools/list", id=1)["result"]["tools"]
    assert [tool["name"] for tool in tools] == ["get_weather", "clock"]
    assert tools[0]["inputSchema"] == json.loads(SCHEMA)
    assert tools[0]["description"] == "Tells the weather."
    assert all(tool["annotations"] == {"readOnlyHint": True} for tool in tools)
    assert all(tool["_meta"] == {"anthropic/maxResultSizeChars": RESULT_LIMIT} for tool in tools)


def test_a_long_description_goes_on_in_the_schema() -> None:
    words = " ".join(map(str, range(2000)))
    schema = '{"type":"object","description":"Own."}'
    server = FunctionServer([Function("f", words, schema)])
    (tool,) = ask(server, method="tools/list", id=1)["result"]["tools"]
    assert len(tool["description"]) <= DESCRIPTION_LIMIT
    head = tool["description"].partition(" (continued in")[0]
    rest = tool["inputSchema"]["description"].removeprefix("(continued) ")
    assert head + rest == f"{words}\n\nOwn."


@given(st.lists(st.text(min_size=1, max_size=90), unique=True, max_size=20))
def test_names_go_to_the_model_and_back(names: list[str]) -> None:
    known = Names(names)
    tools = [known.to_model(name) for name in names]
    assert len(set(tools)) == len(names)
    assert all(len(tool) <= 128 for tool in tools)
    assert all(tool.removeprefix(PREFIX).replace("-", "_").isascii() for tool in tools)
    assert [known.to_client(tool) for tool in tools] == names


def test_other_tools_are_none_of_the_clients() -> None:
    known = Names(["clock"])
    assert known.to_client("clock") is None
    assert known.to_client("mcp__other__clock") is None
    assert known.to_client(PREFIX + "watch") is None


def test_ids_survive_what_clients_do_to_them() -> None:
    ids = {new_call_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(each) == 28 and each.isalnum() for each in ids)


def test_a_call_waits_for_its_result_and_results_come_in_any_order() -> None:
    server = FunctionServer([WEATHER, CLOCK])
    server.begin_round()
    first, second = server.call("t1", PREFIX + "get_weather"), server.call("t2", PREFIX + "clock")
    assert first is not None
    assert second is not None
    assert (first[1], second[1]) == ("get_weather", "clock")
    assert server.pending == (first[0], second[0])
    assert ask(server, "q1", **asked_for("t1")) is None
    assert server.is_waiting
    # The second question comes after the results: it is answered at once.
    given = results_of(
        server.give(
            [
                ToolResult(second[0], (Text("noon"),)),
                ToolResult(first[0], (Text("rain"), Image("image/png", "aGk=")), is_error=True),
            ]
        )
    )
    assert given == {
        "rpc-t1": {
            "content": [
                {"type": "text", "text": "rain"},
                {"type": "image", "data": "aGk=", "mimeType": "image/png"},
            ],
            "isError": True,
        }
    }
    reply = ask(server, "q2", **asked_for("t2"))
    assert reply["result"] == {"content": [{"type": "text", "text": "noon"}], "isError": False}
    server.begin_round()
    assert not server.pending


def test_a_subagent_cannot_call_the_clients_functions() -> None:
    server = FunctionServer([CLOCK])
    reply = ask(server, **asked_for("never seen"))
    assert reply["result"]["isError"]


def test_what_may_not_be_called_is_turned_down_without_the_client() -> None:
    server = FunctionServer([WEATHER, CLOCK])
    server.begin_turn(ToolChoice("none"), parallel=True)
    assert server.call("t1", PREFIX + "clock") is None
    assert ask(server, **asked_for("t1"))["result"]["isError"]
    server.begin_turn(ToolChoice("auto", ("clock",)), parallel=True)
    assert server.call("t2", PREFIX + "get_weather") is None
    assert "clock" in ask(server, **asked_for("t2"))["result"]["content"][0]["text"]
    assert server.call("t3", PREFIX + "clock") is not None


def test_only_the_first_of_parallel_calls_is_told_where_that_is_wanted() -> None:
    server = FunctionServer([WEATHER, CLOCK])
    server.begin_turn(ToolChoice(), parallel=False)
    assert server.call("t1", PREFIX + "clock") is not None
    assert server.call("t2", PREFIX + "get_weather") is None
    assert ask(server, **asked_for("t1")) is None
    assert ask(server, **asked_for("t2"))["result"]["isError"]
    server.begin_round()
    assert server.call("t3", PREFIX + "get_weather") is not None


def test_functions_of_the_history_are_declared_and_turned_down() -> None:
    history = [Message("assistant", (ToolCall("a", "old", "{}"), ToolCall("b", "clock", "{}")))]
    server = FunctionServer([CLOCK], called_in(history))
    tools = ask(server, method="tools/list", id=1)["result"]["tools"]
    assert [tool["name"] for tool in tools] == ["clock", "old"]
    assert server.call("t1", PREFIX + "old") is None
    assert ask(server, **asked_for("t1"))["result"]["isError"]


RESULT = ToolResult("a", (Text("x"),))
OTHER = ToolResult("b", (Text("x"),))
SAID = Message("user", (Text("and?"),))


@pytest.mark.parametrize(
    ("messages", "exact", "lenient"),
    [
        ([Message("user", (RESULT, OTHER))], True, True),
        ([Message("user", (OTHER, RESULT))], True, True),
        ([Message("user", (RESULT,))], False, False),
        ([Message("user", (RESULT, OTHER, RESULT))], False, False),
        ([Message("user", (RESULT, OTHER, Text("x")))], False, False),
        ([SAID], False, False),
        ([Message("user", (RESULT, OTHER)), SAID], False, True),
        ([Message("user", (RESULT, OTHER)), Message("user", (Image("i", "x"),))], False, False),
        ([Message("user", (RESULT, ToolResult("b", (Text("x" * RESULT_LIMIT),))))], False, False),
        (
            [Message("user", (RESULT, ToolResult("b", (Document("text/plain", "x"),))))],
            False,
            False,
        ),
    ],
)
def test_only_exactly_the_results_can_be_handed_over(
    messages: list[Message], *, exact: bool, lenient: bool
) -> None:
    assert answerable(messages, ("a", "b"), lenient=False) is exact
    assert answerable(messages, ("a", "b"), lenient=True) is lenient
