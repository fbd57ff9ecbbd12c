"""How long clients are kept waiting for a status, by what they send."""

import math

import pytest

from maxd.http.patience import FETCH_SECONDS, MARGIN_SECONDS, Patience, patience_of

FETCH = {"sec-fetch-mode": "cors", "user-agent": "node"}
SDK = {**FETCH, "user-agent": "OpenAI/JS 6.49.0", "x-stainless-lang": "js"}
PYTHON = {"user-agent": "OpenAI/Python 3.54.0", "x-stainless-lang": "python"}


@pytest.mark.parametrize(
    ("headers", "patience"),
    [
        ({}, Patience(told=False)),
        ({"user-agent": "curl/7.88.1"}, Patience(told=False)),
        ({"user-agent": "python-requests/2.34.2"}, Patience(told=False)),
        ({"user-agent": "Go-http-client/1.1"}, Patience(told=False)),
        ({"user-agent": "python-httpx/0.28.1"}, Patience(told=True)),
        (PYTHON, Patience(told=True)),
        ({**PYTHON, "x-stainless-timeout": "600"}, Patience(told=True)),
        (FETCH, Patience(told=True)),
        (SDK, Patience(told=True)),
        (
            {**SDK, "x-stainless-timeout": "600"},
            Patience(told=True, seconds=600 - MARGIN_SECONDS),
        ),
        ({**SDK, "x-stainless-timeout": "4"}, Patience(told=True, seconds=2)),
        ({**SDK, "x-stainless-timeout": "0"}, Patience(told=True, seconds=0)),
        ({**SDK, "x-stainless-timeout": "1e9"}, Patience(told=True)),
        ({**SDK, "x-stainless-timeout": "-1"}, Patience(told=True)),
        ({**SDK, "x-stainless-timeout": "9" * 5000}, Patience(told=True)),
        ({"user-agent": "Bun/1.2"}, Patience(told=False, seconds=FETCH_SECONDS)),
        ({"x-stainless-lang": "js"}, Patience(told=False, seconds=FETCH_SECONDS)),
    ],
)
def test_clients(headers: dict[str, str], patience: Patience) -> None:
    sent = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert patience_of(sent, "1.1") == patience


@pytest.mark.parametrize("proxy", ["Via", "forwarded", "x-forwarded-for"])
def test_a_proxy_is_told_nothing(proxy: str) -> None:
    def behind(headers: dict[str, str]) -> Patience:
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        return patience_of([*sent, (proxy.encode(), b"x")], "1.1")

    assert behind(PYTHON) == Patience(told=False)
    assert behind(FETCH) == Patience(told=False, seconds=FETCH_SECONDS)


def test_http_1_0_knows_no_1xx() -> None:
    sent = [(name.encode(), value.encode()) for name, value in FETCH.items()]
    assert patience_of(sent, "1.0") == Patience(told=False, seconds=FETCH_SECONDS)
    assert patience_of([(b"user-agent", b"python-httpx/0")], "1.0").seconds == math.inf
