"""From the bytes of a body to Structs, or to a fault that names the place."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias, TypeVar

import msgspec

from maxd.workers.faults import BadRequest

T = TypeVar("T")


class Complaint(NamedTuple):
    """What is wrong with some JSON. `what` repeats nothing of the client's. `path` leads to the
    place, as msgspec writes it: `.messages[0].role`; empty is the whole. `missing`: there should be
    something at `path`, and there is nothing."""

    what: str
    path: str
    missing: bool = False


Spell: TypeAlias = Callable[[Complaint, str], BadRequest]
"""Tells a complaint about what stands at a place in the body, as one dialect names places."""


def complaint(error: msgspec.ValidationError) -> Complaint:
    """What msgspec has refused."""
    # Of a key that is wrong it says: at `key` in `$.metadata`.
    what = str(error).replace(" - at `key` in `$", " - at `$")
    path = ""
    if what.endswith("`") and " - at `$" in what:
        # The last one: a quoted value may hold the same words.
        what, _, path = what.rpartition(" - at `$")
        path = path.rstrip("`")
    if what.startswith(("Invalid value", "Invalid enum value")):
        # An unknown role, type or word. msgspec quotes it, and it may be anything of the client's.
        return Complaint("Unknown value", path)
    if "required field" in what:
        name = what.rpartition("required field `")[2].rstrip("`")
        return Complaint(what, f"{path}.{name}", missing=True)
    return Complaint(what, path)


def spell(found: Complaint, place: str) -> BadRequest:
    """As OpenAI names places: `messages[0].role`."""
    param = f"{place}{found.path}".removeprefix(".")
    return BadRequest(f"{found.what}{f' in {param}' if param else ''}", param=param or None)


@contextmanager
def faults_named(place: str = "", spell: Spell = spell) -> Iterator[None]:
    """What msgspec raises in the block, as a BadRequest naming the field; what is decoded there
    stands at `place` in the body, empty for the whole. Nothing of the client's is repeated but the
    path to it."""
    try:
        yield
    except msgspec.ValidationError as error:
        raise spell(complaint(error), place) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        # A text cut within a surrogate pair, which JavaScript writes as `\ud83d`, ends here too.
        raise BadRequest(
            "the body is not valid JSON in UTF-8 without lone surrogates", code="invalid_json"
        ) from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply", code="invalid_json") from None


def decode(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw, place: str = "") -> T:
    """What `decoder` makes of `data`. Raises BadRequest as `faults_named` says."""
    with faults_named(place):
        return decoder.decode(data)
