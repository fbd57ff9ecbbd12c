"""The list of models in Anthropic's shape, in pages."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from maxd.workers.faults import BadRequest
from maxd.workers.models import OfferedModel

DEFAULT_LIMIT, HIGHEST_LIMIT = 20, 1000
# The API's own answer where the date is not known.
CREATED_AT = "1970-01-01T00:00:00Z"


class ModelInfo(Struct, tag_field="type", tag="model"):
    id: str
    display_name: str
    created_at: str = CREATED_AT
    lifecycle: str = "active"


class ModelPage(Struct):
    data: list[ModelInfo]
    has_more: bool
    first_id: str | None
    last_id: str | None


class Window(Struct, frozen=True):
    """Which page is wanted. An id that is not in the list leads to an empty page."""

    limit: int = DEFAULT_LIMIT
    before_id: str | None = None
    after_id: str | None = None


def window(limit: str | None, before_id: str | None, after_id: str | None) -> Window:
    """The page that the query asks for. Raises BadRequest for a limit that is none."""
    if limit is None:
        return Window(DEFAULT_LIMIT, before_id, after_id)
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 4) or not (
        1 <= int(limit) <= HIGHEST_LIMIT
    ):
        raise BadRequest(f"a whole number from 1 to {HIGHEST_LIMIT}", param="limit")
    return Window(int(limit), before_id, after_id)


def encode_list(offered: Sequence[OfferedModel], page: Window) -> bytes:
    """The body of `GET /v1/models`."""
    infos = [ModelInfo(model.id, model.display_name) for model in offered]
    ids = [info.id for info in infos]
    if page.before_id is not None:
        end = ids.index(page.before_id) if page.before_id in ids else 0
        begin = max(0, end - page.limit)
        more = begin > 0
    else:
        begin = 0
        if page.after_id is not None:
            begin = ids.index(page.after_id) + 1 if page.after_id in ids else len(ids)
        end = begin + page.limit
        more = end < len(ids)
    shown = infos[begin:end]
    return msgspec.json.encode(
        ModelPage(shown, more, shown[0].id if shown else None, shown[-1].id if shown else None)
    )


def encode_one(model_id: str, offered: Sequence[OfferedModel]) -> bytes:
    """The body of `GET /v1/models/{id}` for an id that has been found to exist: also one that is
    passed on to the CLI without being in the list."""
    names = {model.id: model.display_name for model in offered}
    return msgspec.json.encode(ModelInfo(model_id, names.get(model_id, model_id)))
