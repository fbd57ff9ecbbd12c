"""The list of models in OpenAI's shape, with the keys that Anthropic's SDKs look for as well."""

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from maxd.workers.models import OfferedModel

# No release date is known for an alias; clients only want a number and a date that parse.
CREATED = 0
CREATED_AT = "1970-01-01T00:00:00Z"


class ModelObject(Struct):
    id: str
    display_name: str
    object: str = "model"
    type: str = "model"
    created: int = CREATED
    created_at: str = CREATED_AT
    owned_by: str = "anthropic"


class ModelList(Struct):
    data: list[ModelObject]
    first_id: str | None
    last_id: str | None
    object: str = "list"
    has_more: bool = False


def encode_list(offered: Iterable[OfferedModel]) -> bytes:
    """The body of `GET /v1/models`."""
    data = [ModelObject(model.id, model.display_name) for model in offered]
    ids = [model.id for model in data]
    return msgspec.json.encode(ModelList(data, ids[0] if ids else None, ids[-1] if ids else None))


def encode_one(model_id: str, offered: Iterable[OfferedModel]) -> bytes:
    """The body of `GET /v1/models/{id}` for an id that has been found to exist: also one that is
    passed on to the CLI without being in the list."""
    names = {model.id: model.display_name for model in offered}
    return msgspec.json.encode(ModelObject(model_id, names.get(model_id, model_id)))
