"""The loopback model on its socket: routes, recording, clients that leave, hostile bytes."""

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import trio

from maxd.workers.loopback import LoopbackModel, Reply, Request, Script, serve_loopback_model

BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
PATIENCE = 20


@pytest.fixture
async def model(nursery: trio.Nursery) -> AsyncIterator[LoopbackModel]:
    model: LoopbackModel = await nursery.start(serve_loopback_model)
    yield model
    assert list(model.failures) == []


async def start(nursery: trio.Nursery, script: Script) -> LoopbackModel:
    async def serve(
        task_status: trio.TaskStatus[LoopbackModel] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        await serve_loopback_model(script=script, keep=2, task_status=task_status)

    model: LoopbackModel = await nursery.start(serve)
    return model


async def connect(model: LoopbackModel) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", model.port)


def post(model: LoopbackModel, directive: str = "", **fields: Any) -> bytes:
    content = f"<<loopback {directive} >>" if directive else "hi"
    body = json.dumps({**BODY, "messages": [{"role": "user", "content": content}], **fields})
    head = f"POST /v1/messages?beta=true HTTP/1.1\r\nhost: 127.0.0.1:{model.port}\r\n"
    return f"{head}x-api-key: hush\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()


async def read_until(stream: trio.SocketStream, mark: bytes) -> bytes:
    received = b""
    with trio.fail_after(PATIENCE):
        while mark not in received:
            received += (piece := await stream.receive_some())
            assert piece, received
    return received


async def read_to_end(stream: trio.SocketStream) -> bytes:
    received = b""
    with trio.fail_after(PATIENCE):
        async for piece in stream:
            received += piece
    return received


async def assert_answers(model: LoopbackModel) -> None:
    async with httpx.AsyncClient(base_url=model.base_url) as client:
        assert (await client.post("/v1/messages", json=BODY)).status_code == 200


async def test_every_route(model: LoopbackModel) -> None:
    async with httpx.AsyncClient(base_url=model.base_url) as client:
        assert (await client.head("/")).status_code == 200
        whole = await client.post("/v1/messages", json=BODY)
        assert "You asked: hi" in whole.json()["content"][0]["text"]
        streamed = await client.post("/v1/messages?beta=true", json={**BODY, "stream": True})
        assert streamed.headers["content-type"].startswith("text/event-stream")
        assert streamed.text.endswith('data: {"type":"message_stop"}\n\n')
        counted = await client.post("/v1/messages/count_tokens", json=BODY)
        assert counted.json()["input_tokens"] > 1
        for method, path in [("GET", "/v1/messages"), ("POST", "/v1/x"), ("PUT", "/")]:
            missing = await client.request(method, path)
            assert missing.status_code == 404
            assert missing.json()["error"]["type"] == "not_found_error"
        assert (await client.head("/nowhere")).status_code == 404
        seen = (await client.get("/loopback/requests")).json()
        assert [request["path"] for request in seen] == ["/v1/messages", "/v1/messages?beta=true"]
        await client.delete("/loopback/requests")
        assert (await client.get("/loopback/requests")).json() == []
    assert model.count == model.ended == 2


async def test_a_malformed_directive_and_body_are_400(model: LoopbackModel) -> None:
    async with httpx.AsyncClient(base_url=model.base_url) as client:
        directive = {**BODY, "messages": [{"role": "user", "content": '<<loopback {"txt":1}>>'}]}
        wrong = await client.post("/v1/messages", json=directive)
        assert wrong.status_code == 400
        assert "unknown field `txt`" in wrong.json()["error"]["message"]
        for content in [b"", b"{", b"\xff", b"[]", b"{}", b'{"messages":5}', b"[" * 100_000]:
            bad = await client.post("/v1/messages", content=content)
            assert (bad.status_code, bad.json()["error"]["type"]) == (400, "invalid_request_error")
    assert model.count == 1


async def test_requests_are_recorded_without_credentials(model: LoopbackModel) -> None:
    async with await connect(model) as stream:
        await stream.send_all(post(model))
        with trio.fail_after(PATIENCE):
            await model.wait_requests(1)
            await model.wait_ended(1)
    request = model.requests[0]
    assert request.path == "/v1/messages?beta=true"
    assert request.body["messages"][0]["content"] == "hi"
    assert request.headers["x-api-key"] == "(hidden)"
    assert not request.gone
    assert request.ended is not None
    assert request.ended >= request.arrived


async def test_the_record_is_bounded_and_a_script_is_served_in_order(
    nursery: trio.Nursery,
) -> None:
    model = await start(nursery, [Reply(text="a"), Reply(error=529), Reply(text="c")])
    async with httpx.AsyncClient(base_url=model.base_url) as client:
        replies = [await client.post("/v1/messages", json=BODY) for _ in range(4)]
    assert [reply.status_code for reply in replies] == [200, 529, 200, 200]
    assert model.count == 4
    assert len(model.requests) == 2


async def test_a_failing_script_is_an_answer_and_is_not_lost(nursery: trio.Nursery) -> None:
    def script(request: Request) -> Reply:
        raise KeyError("hush")

    model = await start(nursery, script)
    async with httpx.AsyncClient(base_url=model.base_url) as client:
        reply = await client.post("/v1/messages", json=BODY)
    assert reply.status_code == 500
    assert reply.json()["error"]["message"] == "the script raised KeyError"
    assert [type(failure) for failure in model.failures] == [KeyError]


@pytest.mark.parametrize(
    "directive",
    [
        '{"words":9,"stall":2}',
        '{"words":9,"pace":3600}',
        '{"delay":3600}',
        '{"stall":-1}',
        '{"words":100000}',  # More than the sockets hold, for a client that reads nothing.
    ],
)
@pytest.mark.parametrize("abrupt", [False, True])
async def test_a_request_ends_when_its_client_goes_away(
    model: LoopbackModel, directive: str, abrupt: bool
) -> None:
    stream = await connect(model)
    # A byte too much, which must not hide that the client has gone.
    await stream.send_all(post(model, directive, stream=True) + b"x")
    with trio.fail_after(PATIENCE):
        await model.wait_requests(1)
        if abrupt:
            # RST instead of FIN.
            stream.setsockopt(
                trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0" + b"\0" * 4
            )
        await stream.aclose()
        await model.wait_ended(1)
    assert model.requests[0].gone
    await assert_answers(model)


async def test_a_stall_sends_what_comes_before_it(model: LoopbackModel) -> None:
    async with await connect(model) as stream:
        await stream.send_all(post(model, '{"words":9,"stall":2}', stream=True))
        assert b"word1" in await read_until(stream, b"word2")
        assert model.ended == 0


@pytest.mark.parametrize(
    ("directive", "mark"), [('{"words":9,"cut":2}', b"word2"), ('{"cut":-1}', b"")]
)
async def test_a_cut_closes_the_connection(
    model: LoopbackModel, directive: str, mark: bytes
) -> None:
    async with await connect(model) as stream:
        await stream.send_all(post(model, directive, stream=True))
        received = await read_to_end(stream)
    assert mark in received
    assert bool(received) == bool(mark)
    assert not received.endswith(b"0\r\n\r\n")
    assert not model.requests[0].gone


async def test_paced_words_arrive_whole_and_the_connection_goes_on(model: LoopbackModel) -> None:
    async with await connect(model) as stream:
        for _ in range(2):
            await stream.send_all(post(model, '{"words":20,"pace":0.001}', stream=True))
            received = await read_until(stream, b"0\r\n\r\n")
            assert all(b'word%d"' % number in received for number in range(1, 21))


async def test_pipelined_requests_are_answered_in_order(model: LoopbackModel) -> None:
    async with await connect(model) as stream:
        paced = post(model, '{"words":3,"pace":0.001}', stream=True)
        await stream.send_all(paced + post(model, '{"text":"second"}'))
        assert b"word3" in await read_until(stream, b"second")


async def test_a_client_may_ask_before_it_sends_a_body(model: LoopbackModel) -> None:
    head, body = post(model).split(b"\r\n\r\n")
    async with await connect(model) as stream:
        await stream.send_all(head + b"\r\nexpect: 100-continue\r\n\r\n")
        await read_until(stream, b"HTTP/1.1 100")
        await stream.send_all(body)
        await read_until(stream, b"You asked: hi")


async def test_a_body_over_the_limit_is_refused_unread(model: LoopbackModel) -> None:
    head = post(model).replace(b"content-length: ", b"content-length: 99999999")
    async with await connect(model) as stream:
        await stream.send_all(head.partition(b"{")[0])
        assert b" 413 " in await read_to_end(stream)
    await assert_answers(model)


async def test_large_bodies_and_answers(model: LoopbackModel) -> None:
    content = [{"type": "text", "text": "x" * 10_000_000}, {"type": "text", "text": "hi"}]
    body = {**BODY, "messages": [{"role": "user", "content": content}], "stream": True}
    async with httpx.AsyncClient(base_url=model.base_url, timeout=PATIENCE) as client:
        assert (await client.post("/v1/messages", json=body)).status_code == 200
        content[1]["text"] = '<<loopback {"words":50000}>>'
        reply = await client.post("/v1/messages", json=body)
        assert 'word50000"' in reply.text


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"y" * 200_000,
        b"POST /v1/messages HTTP/1.1\r\nhost: HOST\r\ncontent-length: 9\r\n\r\n{",
        b"POST /v1/messages HTTP/1.1\r\nhost: HOST\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nhost: HOST\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"\r\n" * 1000,
        b"",
    ],
)
@pytest.mark.parametrize("leaves", [False, True])
async def test_garbage_ends_only_its_own_connection(
    model: LoopbackModel, data: bytes, leaves: bool
) -> None:
    # Reset: it had more to say than the server wanted to read.
    with suppress(trio.BrokenResourceError), trio.fail_after(PATIENCE):
        async with await connect(model) as stream:
            await stream.send_all(data.replace(b"HOST", b"127.0.0.1:%d" % model.port))
            if not leaves:
                await stream.send_eof()
                async for piece in stream:
                    assert piece.startswith((b"HTTP/1.1 4", b"{"))
    await assert_answers(model)
    assert model.count == 1


async def test_it_listens_on_loopback_only(model: LoopbackModel) -> None:
    assert model.base_url == f"http://127.0.0.1:{model.port}"
    # All of 127/8 is this machine on Linux, so a wildcard listener would answer here.
    with pytest.raises(OSError, match=r"refused|assign|all attempts|Connect"):
        await trio.open_tcp_stream("127.0.0.2", model.port)
