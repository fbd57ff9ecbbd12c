"""The list of models, for the SDKs of both makers."""

import json

import pytest
from openai.types import Model

from maxd.http.openai_models import encode_list, encode_one
from maxd.workers.models import OfferedModel

OFFERED = (
    OfferedModel(id="claude-opus-4", resolved="claude-opus-5-5", display_name="Opus"),
    OfferedModel(id="claude-opus-4:chat", resolved=None, display_name="Opus"),
)


def test_the_list_has_the_keys_of_both() -> None:
    listed = json.loads(encode_list(OFFERED))
    assert listed["object"] == "list"
    assert listed["has_more"] is False
    assert (listed["first_id"], listed["last_id"]) == ("claude-opus-4", "claude-opus-4:chat")
    assert listed["data"][0] == {
        "id": "claude-opus-4",
        "object": "model",
        "created": 0,
        "owned_by": "anthropic",
        "type": "model",
        "display_name": "Opus",
        "created_at": "1970-01-01T00:00:00Z",
    }
    for model in listed["data"]:
        Model.model_validate(model, strict=True)


def test_a_generator_is_listed_whole() -> None:
    assert len(json.loads(encode_list(model for model in OFFERED))["data"]) == 2


def test_an_empty_list_is_a_list() -> None:
    assert json.loads(encode_list(())) == {
        "object": "list",
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    }


@pytest.mark.parametrize(
    ("model_id", "name"),
    [
        ("claude-opus-4:chat", "Opus"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5-20250929"),
        ("anthropic/claude-opus-4", "anthropic/claude-opus-4"),
    ],
)
def test_one_model_is_told_by_the_id_it_was_asked_for(model_id: str, name: str) -> None:
    model = json.loads(encode_one(model_id, OFFERED))
    assert (model["id"], model["display_name"]) == (model_id, name)
    Model.model_validate(model, strict=True)
