"""OpenAI Responses, inwards: from bytes to Structs, or to a fault that names the place."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import msgspec

from maxd.http.openai_errors import invalid
from maxd.workers.faults import BadRequest

T = TypeVar("T")

# No model's window holds more: a million tokens are about 4 MB of text. Images do not count.
TEXT_LIMIT = 8 * 1024 * 1024


@contextmanager
def faults_named(place: str = "") -> Iterator[None]:
    """What msgspec raises in the block, as a BadRequest naming the field; what is decoded there
    stands at `place` in the body, empty for the whole. Nothing of the client's is repeated but the
    path to it."""
    try:
        yield
    except msgspec.ValidationError as error:
        raise invalid(error, place) from None
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


def check_text(text: str, place: str) -> str:
    """`text`, if it may reach the CLI. Raises BadRequest."""
    if "\0" in text:
        raise BadRequest("NUL characters are not allowed", param=place)
    return text
