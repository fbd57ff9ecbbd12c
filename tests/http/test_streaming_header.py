"""What a request may ask for in headers, and what it may not."""

import pytest

from maxd.http.streaming_header import streaming_of
from maxd.workers.faults import BadRequest, Forbidden


def test_a_mode_is_taken_whatever_the_case_of_the_name() -> None:
    assert streaming_of([("Host", "x"), ("x-MAXD-stream", "adaptive")]) == "adaptive"
    assert streaming_of([("X-Conversation-Id", "x"), ("X-Maxd-Strict", "true")]) is None


@pytest.mark.parametrize("value", ["", "Live", "live, smart", "agent"])
def test_another_mode_is_refused(value: str) -> None:
    with pytest.raises(BadRequest) as caught:
        streaming_of([("X-Maxd-Stream", value)])
    assert (caught.value.status, caught.value.param) == (400, "X-Maxd-Stream")


def test_a_mode_named_twice_is_refused() -> None:
    with pytest.raises(BadRequest):
        streaming_of([("X-Maxd-Stream", "live"), ("x-maxd-stream", "smart")])


@pytest.mark.parametrize("name", ["X-Maxd-Profile", "x-maxd-tools", "X-MAXD-", "X-Maxd-Streams"])
def test_no_header_raises_rights(name: str) -> None:
    with pytest.raises(Forbidden) as caught:
        streaming_of([("X-Maxd-Stream", "live"), (name, "agent")])
    assert (caught.value.status, caught.value.param) == (403, name)
