"""Every claim of the conformance page, against the real CLI."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from msgspec import Struct

from tests.end_to_end.conformance.checks import Check, Dialect, Verdict, holds
from tests.end_to_end.conformance.page import DIALECTS, PAGE, page
from tests.end_to_end.running import DaemonProcess, LoopbackProcess

CASES = [
    pytest.param(dialect, check, id=f"{dialect.name}: {check.group}: {check.name}")
    for dialect in DIALECTS
    for check in dialect.checks
    if check not in dialect.ignored_fields
]


class Exchange(Struct, frozen=True):
    """What a request was answered, and what the last one to the model was for it."""

    reply: httpx.Response
    upstream: Any


class Exchanges:
    """Sends each request once, however many checks have it."""

    def __init__(self, web: httpx.Client) -> None:
        self.web = web
        self._made: dict[str, Exchange] = {}

    def of(
        self, method: str, path: str, headers: dict[str, str], body: Any, model: LoopbackProcess
    ) -> Exchange:
        request = json.dumps([method, path, headers, body])
        if request not in self._made:
            model.forget()
            reply = self.web.request(method, path, headers=headers, json=body)
            asked = model.requests()
            self._made[request] = Exchange(reply, asked[-1]["body"] if asked else None)
        return self._made[request]


@pytest.fixture(scope="module")
def exchanges(shared_daemon: DaemonProcess) -> Iterator[Exchanges]:
    with httpx.Client(base_url=shared_daemon.base_url, timeout=60.0) as web:
        yield Exchanges(web)


@pytest.mark.parametrize(("dialect", "check"), CASES)
def test_claim(
    dialect: Dialect, check: Check, exchanges: Exchanges, model: LoopbackProcess
) -> None:
    body = dialect.least(check.ask or "Hello.") | check.body
    body = {name: value for name, value in body.items() if value is not None}
    path = check.path or dialect.path
    if check.earlier is not None:
        earlier = exchanges.of("POST", dialect.path, {}, dialect.least(check.earlier), model)
        stored = earlier.reply.json()
        names = {"{response}": stored["id"], "{item}": stored["output"][0]["id"]}
        body, path = json.loads(filled(json.dumps(body), names)), filled(path, names)
    sent = body if check.method == "POST" else None
    exchange = exchanges.of(check.method, path, check.headers, sent, model)
    reply, given = exchange.reply, exchange.upstream
    assert reply.status_code == check.status, reply.text
    if check.reply is not None:
        assert holds(check.reply, reply.json()), reply.text
    if check.upstream is not None:
        assert holds(check.upstream, given), given
    if check.events:
        told = list(events(reply.text))
        rest = iter(told)
        assert all(event in rest for event in check.events), told
    named = reply.headers.get("x-ignored-params", "").split(", ")
    if check.verdict is Verdict.IGNORED:
        words = check.name.split("`")[1]
        assert words in (name.rpartition(".")[2] for name in named)
    elif check.status == 200:
        assert named == [""]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_fields_without_effect(dialect: Dialect, exchanges: Exchanges) -> None:
    """All of them in one request: a turn for each would cost as much as everything else here."""
    body = dialect.least("Hello.")
    for check in dialect.ignored_fields:
        body |= check.body
    reply = exchanges.web.post(dialect.path, json=body)
    assert reply.status_code == 200, reply.text
    named = [f"`{name}`" for name in reply.headers["x-ignored-params"].split(", ")]
    assert sorted(named) == sorted(check.name for check in dialect.ignored_fields)


def filled(text: str, names: dict[str, str]) -> str:
    """`text` with what `names` stand for."""
    for name, value in names.items():
        text = text.replace(name, value)
    return text


def events(stream: str) -> Iterator[str]:
    """What the events of a stream are: by their own types, or by what a chunk holds."""
    for line in stream.splitlines():
        if not line.startswith("data: "):
            continue
        data: Any = None if line == "data: [DONE]" else json.loads(line.removeprefix("data: "))
        if data is None:
            yield "[DONE]"
        elif "error" in data:
            yield "error"
        elif "type" in data:
            yield data["type"]
            if isinstance(delta := data.get("delta"), dict) and "type" in delta:
                yield delta["type"]
        else:
            for choice in data["choices"]:
                yield from (key for key, value in choice["delta"].items() if value)
                if choice["finish_reason"]:
                    yield choice["finish_reason"]
            if data.get("usage"):
                yield "usage"


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_every_field_has_a_row(dialect: Dialect) -> None:
    names = [check.name for check in dialect.checks if check.group == "fields"]
    assert {f"`{name}`" for name in dialect.fields} <= set(names)
    assert len(names) == len(set(names))


def test_the_page_is_what_the_checks_say() -> None:
    assert PAGE.read_text() == page()


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1}, {"b": 1}, False),
        ([1], [2, 1], True),
        ([1, 3], [2, 1], False),
        ((1,), [1], True),
        ((1,), [1, 1], False),
        ((1, 2), [2, 1], False),
        ("b", "abc", True),
        ("b", 1, False),
        (True, 1, True),
        (None, 0, False),
    ],
)
def test_holds(pattern: object, value: object, expected: bool) -> None:
    assert holds(pattern, value) is expected
