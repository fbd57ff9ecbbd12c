"""What every dialect checks of the content it is given: texts, and files as base64.

Nothing is ever fetched: content is in the request or refused.
"""

import re

import msgspec
from msgspec import Raw

from maxd.workers.faults import BadRequest, TooLarge
from maxd.workers.turn import Document, Image

# No model's window holds more: a million tokens are about 4 MB of text. Files do not count.
TEXT_LIMIT = 8 * 1024 * 1024
IMAGE_TYPES = ("image/gif", "image/jpeg", "image/png", "image/webp")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}", re.ASCII)


class TextBudget:
    """How much text a request may still hold."""

    def __init__(self, limit: int = TEXT_LIMIT) -> None:
        self._limit = limit
        self._left = limit

    def take(self, text: str, where: str) -> str:
        """`text`, counted. Raises BadRequest for a NUL, TooLarge over the limit."""
        if "\0" in text:
            raise BadRequest("NUL characters are not allowed", param=where)
        self._left -= len(text)
        if self._left < 0:
            raise TooLarge(f"the request holds more than {self._limit} characters of text")
        return text


def image(media_type: str, data: str, where: str) -> Image:
    """An image. Raises BadRequest, naming `where`, if it is of no known type or not base64."""
    media_type = media_type.lower()
    if media_type not in IMAGE_TYPES:
        raise BadRequest(f"images must be one of {', '.join(IMAGE_TYPES)}", param=where)
    return Image(media_type, base64(data, where))


def pdf(data: str, title: str | None, where: str) -> Document:
    """A PDF file. Raises BadRequest, naming `where`, if it is not base64 of one."""
    # `%PDF-`: the service refuses everything else, and that would end the turn.
    if not base64(data, where).startswith("JVBERi"):
        raise BadRequest("the data is not a PDF file", param=where)
    return Document("application/pdf", data, title)


def base64(data: str, where: str) -> str:
    """`data`. Raises BadRequest, naming `where`, if it is not base64 with its padding."""
    if len(data) % 4 or not _BASE64.fullmatch(data):
        raise BadRequest("the data is not base64 with its padding", param=where)
    return data


def json_object(raw: Raw, where: str) -> str:
    """The object in `raw` as JSON text on one line, otherwise verbatim: what the CLI is given ends
    at a line break. Raises BadRequest, naming `where`, if it is no object."""
    try:
        # A Raw has only been skipped over by its decoder, not checked.
        msgspec.json.decode(raw, type=dict[str, Raw])
    except msgspec.ValidationError:
        raise BadRequest("must be an object", param=where) from None
    return msgspec.json.format(bytes(raw), indent=-1).decode()
