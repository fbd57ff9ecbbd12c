"""Images and files that a request carries as `data:` URLs. Nothing is ever fetched."""

import base64
import re
from typing import Final

from maxd.workers.faults import BadRequest, TooLarge
from maxd.workers.turn import Document, Image

IMAGE_TYPES: Final = frozenset(("image/png", "image/jpeg", "image/gif", "image/webp"))
PDF: Final = "application/pdf"
DATA_LIMIT: Final = 32 * 1024 * 1024
"""Characters of base64 in one request: the Messages API takes no longer request."""

_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}", re.ASCII)
# Of text files; what else a data URL may say about itself (a name) changes nothing.
_CHARSETS = frozenset(("charset=utf-8", "charset=us-ascii"))
# The Messages API's own limit of a document's title.
_TITLE_LENGTH = 500


def image(url: str, where: str) -> Image:
    """The image in the data URL `url`. Raises BadRequest with the param `where`, TooLarge."""
    media_type, parameters, data = _split(url, where)
    if media_type not in IMAGE_TYPES or parameters:
        raise BadRequest(f"must be one of {', '.join(sorted(IMAGE_TYPES))}", param=where)
    return Image(media_type, data)


def file(url: str, title: str | None, where: str) -> Document | Image:
    """The file in the data URL `url`: a PDF, an image, or text in UTF-8, which becomes plain text.
    Raises BadRequest with the param `where`, TooLarge."""
    media_type, parameters, data = _split(url, where)
    if title is not None and "\0" in title:
        raise BadRequest("NUL characters are not allowed", param=where)
    title = (title or "").strip()[:_TITLE_LENGTH] or None
    if media_type in IMAGE_TYPES:
        return Image(media_type, data)
    if media_type == PDF:
        return Document(PDF, data, title)
    if not media_type.startswith("text/") and media_type != "application/json":
        raise BadRequest("a file must be a PDF, an image or text", param=where)
    if any(each.startswith("charset=") and each not in _CHARSETS for each in parameters):
        raise BadRequest("a text file must be in UTF-8", param=where)
    try:
        text = base64.b64decode(data).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadRequest("a text file must be in UTF-8", param=where) from None
    if "\0" in text:
        raise BadRequest("NUL characters are not allowed", param=where)
    if not text.strip():
        raise BadRequest("the file is empty", param=where)
    return Document("text/plain", text, title)


def _split(url: str, where: str) -> tuple[str, list[str], str]:
    """Media type, parameters and base64 data; the first two in lower case."""
    head, comma, data = url[:_HEAD].partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise BadRequest("only data: URLs with base64 are taken; nothing is fetched", param=where)
    data = url[len(head) + 1 :]
    if len(data) > DATA_LIMIT:
        raise TooLarge(f"holds more than {DATA_LIMIT} characters of base64", param=where)
    if len(data) % 4 or not _BASE64.fullmatch(data):
        raise BadRequest("the data is not base64 with its padding", param=where)
    media_type, *parameters, _ = head.removeprefix("data:").lower().split(";")
    return media_type, parameters, data


# Far more than any media type with its parameters.
_HEAD: Final = 1024
