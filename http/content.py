"""What every dialect checks of the content it is given: texts, and files as base64.

Nothing is ever fetched: content is in the request or refused.
"""

import re
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Raw

from maxd.workers.faults import BadRequest, TooLarge
from maxd.workers.turn import Document, Image, Part, Text, Thinking, ToolCall, ToolResult

TEXT_LIMIT: Final = 8 * 1024 * 1024
"""Characters of text in one request. No model's window holds more: a million tokens are about
4 MB. Images and PDFs do not count."""
DATA_LIMIT: Final = 32 * 1024 * 1024
"""Characters of base64 in one request: the Messages API takes no longer request."""
IMAGE_TYPES: Final = ("image/gif", "image/jpeg", "image/png", "image/webp")
PDF: Final = "application/pdf"
PDF_BEGINS: Final = "JVBERi0"
"""How base64 of `%PDF-` and the digit of its version begins."""

_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}", re.ASCII)


class Allowance:
    """What one request may still hold; `where` is the field that a fault names."""

    def __init__(self, where: str | None = None) -> None:
        self._where = where
        self._text = TEXT_LIMIT
        self._data = DATA_LIMIT

    def take(self, parts: Iterable[Part]) -> None:
        """Count `parts`. Raises TooLarge over either limit."""
        for part in parts:
            match part:
                case Text(text):
                    self._text -= len(text)
                case Thinking(text, signature):
                    self._text -= len(text) + len(signature)
                case ToolCall(call_id, name, arguments):
                    self._text -= len(call_id) + len(name) + len(arguments)
                case Document("text/plain", data, title):
                    self._text -= len(data) + len(title or "")
                case Document(_, data, title):
                    self._text -= len(title or "")
                    self._data -= len(data)
                case Image(_, data):
                    self._data -= len(data)
                case ToolResult(call_id, results):
                    self._text -= len(call_id)
                    self.take(results)
        for left, limit, what in (
            (self._text, TEXT_LIMIT, "text"),
            (self._data, DATA_LIMIT, "base64"),
        ):
            if left < 0:
                raise TooLarge(
                    f"the request holds more than {limit} characters of {what}", param=self._where
                )


def check_text(text: str, where: str) -> str:
    """`text`, if it may reach the CLI. Raises BadRequest, naming `where`."""
    if "\0" in text:
        raise BadRequest("NUL characters are not allowed", param=where)
    return text


def unsupported(message: str, where: str) -> BadRequest:
    """The refusal of what the dialect's own API takes and is not to be had here."""
    return BadRequest(message, param=where, code="unsupported_value")


def image(media_type: str, data: str, where: str) -> Image:
    """An image. Raises BadRequest, naming `where`, if it is of no known type or not base64, and
    TooLarge."""
    media_type = media_type.lower()
    if media_type not in IMAGE_TYPES:
        raise BadRequest(
            f"images must be one of {', '.join(IMAGE_TYPES)}",
            param=where,
            code="unsupported_image_media_type",
        )
    return Image(media_type, base64(data, where, code="invalid_base64_image"))


def pdf(data: str, title: str | None, where: str) -> Document:
    """A PDF file. Raises BadRequest, naming `where`, if it is not base64 of one, and TooLarge."""
    # The service refuses everything else, and that would end the turn.
    if not base64(data, where).startswith(PDF_BEGINS):
        raise BadRequest("the data is not a PDF file", param=where)
    return Document(PDF, data, title)


def base64(data: str, where: str, *, code: str | None = None) -> str:
    """`data`. Raises BadRequest with `code`, naming `where`, if it is not base64 with its padding,
    and TooLarge."""
    if len(data) > DATA_LIMIT:
        raise TooLarge(f"holds more than {DATA_LIMIT} characters of base64", param=where)
    if len(data) % 4 or not _BASE64.fullmatch(data):
        raise BadRequest("the data is not base64 with its padding", param=where, code=code)
    return data


def json_object(raw: Raw, where: str) -> str:
    """The object in `raw` as JSON text on one line, otherwise verbatim. Raises BadRequest, naming
    `where`, if it is no object."""
    try:
        # A Raw has only been skipped over by its decoder, not checked.
        msgspec.json.decode(raw, type=dict[str, Raw])
    except msgspec.ValidationError:
        raise BadRequest("must be an object", param=where) from None
    return msgspec.json.format(bytes(raw), indent=-1).decode()
