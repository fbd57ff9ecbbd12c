"""The list of models in Anthropic's shape."""

import json

import pytest
from anthropic.types import ModelInfo

from maxd.http.anthropic_models import Window, encode_list, encode_one, window
from maxd.workers.faults import BadRequest
from maxd.workers.models import OfferedModel

OFFERED = tuple(
    OfferedModel(id=name, resolved=None, display_name=name.upper()) for name in "abcdefg"
)


@pytest.mark.parametrize(
    ("page", "ids", "more"),
    [
        (Window(), "abcdefg", False),
        (Window(7), "abcdefg", False),
        (Window(3), "abc", True),
        (Window(3, after_id="c"), "def", True),
        (Window(3, after_id="d"), "efg", False),
        (Window(3, after_id="g"), "", False),
        (Window(3, after_id="z"), "", False),
        (Window(3, before_id="e"), "bcd", True),
        (Window(3, before_id="c"), "ab", False),
        (Window(3, before_id="z"), "", False),
    ],
)
def test_pages(page: Window, ids: str, more: bool) -> None:
    found = json.loads(encode_list(OFFERED, page))
    assert [model["id"] for model in found["data"]] == list(ids)
    assert found["has_more"] is more
    assert (found["first_id"], found["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    assert found.keys() == {"data", "has_more", "first_id", "last_id"}


def test_a_model_is_what_the_sdk_expects() -> None:
    found = ModelInfo.model_validate_json(encode_one("a", OFFERED))
    assert (found.id, found.display_name, found.type) == ("a", "A", "model")
    assert found.created_at.year == 1970
    assert ModelInfo.model_validate_json(encode_one("claude-x", OFFERED)).display_name == "claude-x"


def test_the_page_that_is_asked_for() -> None:
    assert window(None, None, None) == Window(20)
    assert window("1000", "a", None) == Window(1000, before_id="a")
    for limit in ("0", "1001", "-1", "x", "", "1" * 5000, "\uff11"):
        with pytest.raises(BadRequest) as caught:
            window(limit, None, None)
        assert caught.value.param == "limit"
