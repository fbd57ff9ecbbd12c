"""From the bytes of a body to Structs, with the client's own name for what is wrong."""

from typing import TypeVar

import msgspec

from maxd.workers.faults import BadRequest

T = TypeVar("T")

# No model's window holds more: a million tokens are about 4 MB of text. Images do not count.
TEXT_LIMIT = 8 * 1024 * 1024


def decode(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw, place: str = "") -> T:
    """What `decoder` makes of `data`, which stands at `place` in the body; empty is the whole.

    Raises BadRequest naming the field. Nothing of the client's is repeated but the path to it.
    """
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise invalid(error, place) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        # A text cut within a surrogate pair, which JavaScript writes as `\ud83d`, ends here too.
        raise BadRequest(
            "the body is not valid JSON in UTF-8 without lone surrogates", code="invalid_json"
        ) from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply", code="invalid_json") from None


def invalid(error: msgspec.ValidationError, place: str = "") -> BadRequest:
    """msgspec names the place as a path, `$.messages[0].role`; OpenAI without the `$.`."""
    what = str(error)
    path = ""
    if what.endswith("`") and " - at `" in what:
        # The last one: a quoted value may hold the same words.
        what, _, path = what.rpartition(" - at `")
        # Of a key that is wrong msgspec says `key` in `$`.
        path = path.partition("$")[2].rstrip("`")
    param = f"{place}{path}".removeprefix(".")
    if what.startswith(("Invalid value", "Invalid enum value")):
        # An unknown word. msgspec quotes it, and it may be anything of the client's.
        what = "Unknown value"
    elif "required field" in what:
        missing = what.rpartition("required field `")[2].rstrip("`")
        param = f"{param}.{missing}" if param else missing
    return BadRequest(f"{what}{f' in {param}' if param else ''}", param=param or None)


def check_text(text: str, place: str) -> str:
    """`text`, if it may reach the CLI. Raises BadRequest."""
    if "\0" in text:
        raise BadRequest("NUL characters are not allowed", param=place)
    return text
