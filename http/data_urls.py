"""Images and files that a request carries as `data:` URLs. Nothing is ever fetched."""

from base64 import b64decode
from typing import Final

from maxd.http import content
from maxd.http.content import check_text
from maxd.workers.faults import BadRequest
from maxd.workers.turn import Document, Image

# Of text files; what else a data URL may say about itself (a name) changes nothing.
_CHARSETS = frozenset(("charset=utf-8", "charset=us-ascii"))
# The Messages API's own limit of a document's title.
_TITLE_LENGTH = 500
# Far more than any media type with its parameters.
_HEAD: Final = 1024


def image(url: str, where: str) -> Image:
    """The image in the data URL `url`. Raises BadRequest with the param `where`, TooLarge."""
    media_type, parameters, data = _split(url, where, code="invalid_image_url")
    if parameters:
        raise BadRequest(
            "the media type of an image has no parameters", param=where, code="invalid_image_url"
        )
    return content.image(media_type, data, where)


def file(url: str, title: str | None, where: str) -> Document | Image:
    """The file in the data URL `url`: a PDF, an image, or text in UTF-8, which becomes plain text.
    Raises BadRequest with the param `where`, TooLarge."""
    media_type, parameters, data = _split(url, where, code="unsupported_value")
    title = check_text(title or "", where).strip()[:_TITLE_LENGTH] or None
    if media_type in content.IMAGE_TYPES:
        return content.image(media_type, data, where)
    if media_type == content.PDF:
        return content.pdf(data, title, where)
    if not media_type.startswith("text/") and media_type != "application/json":
        raise content.unsupported("a file must be a PDF, an image or text", where)
    if any(each.startswith("charset=") and each not in _CHARSETS for each in parameters):
        raise BadRequest("a text file must be in UTF-8", param=where)
    try:
        text = b64decode(content.base64(data, where)).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadRequest("a text file must be in UTF-8", param=where) from None
    if not check_text(text, where).strip():
        raise BadRequest("the file is empty", param=where)
    return Document("text/plain", text, title)


def _split(url: str, where: str, *, code: str) -> tuple[str, list[str], str]:
    """Media type, parameters and data; the first two in lower case."""
    head, comma, _ = url[:_HEAD].partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise BadRequest(
            "only data: URLs with base64 are taken; nothing is fetched", param=where, code=code
        )
    media_type, *parameters, _ = head.removeprefix("data:").lower().split(";")
    return media_type, parameters, url[len(head) + 1 :]
