"""Which dialect a request speaks, where its route does not say so: in errors, and for `/models`."""

from typing import TYPE_CHECKING, Any, cast

from maxd.http import anthropic_errors, openai_errors
from maxd.http.guard import Reply
from maxd.workers.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hypercorn.typing import Scope

# OpenAI's SDKs send neither.
_ANTHROPICS = frozenset({b"anthropic-version", b"x-api-key"})


def speaks_anthropic(path: str, headers: "Iterable[tuple[bytes, bytes]]") -> bool:
    """Whether the client of this request is Anthropic's. `path` is normal, as Front makes it."""
    _, first, *_ = path.split("/")
    if first == "models":
        return any(name.lower() in _ANTHROPICS for name, _ in headers)
    return first == "messages"


def render(fault: Fault, scope: "Scope") -> Reply:
    """The whole reply that tells `fault` to the client of the request `scope`, as Front passes it
    on."""
    assert scope["type"] == "http"
    state = cast("dict[str, Any]", scope)["state"]
    if speaks_anthropic(scope["path"], scope["headers"]):
        return anthropic_errors.render(fault, state["request_id"])
    return openai_errors.render(fault)
