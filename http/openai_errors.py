"""Faults in OpenAI's shape: status, headers and the envelope that its SDKs raise from."""

import msgspec
from msgspec import Struct

from maxd.http.error_headers import error_headers
from maxd.http.guard import Reply
from maxd.workers.faults import Fault


class ErrorBody(Struct):
    """All four keys are always there: some clients index them."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(Struct):
    error: ErrorBody


def envelope(fault: Fault) -> bytes:
    """The JSON body, which is also the data of an error event in a stream."""
    body = ErrorBody(fault.message, type_of(fault.status), fault.param, fault.code)
    return msgspec.json.encode(ErrorEnvelope(body))


def render(fault: Fault) -> Reply:
    """The whole reply that tells `fault`."""
    body = envelope(fault)
    return fault.status, error_headers(fault, body), body


def type_of(status: int) -> str:
    """OpenAI's type of an error of this status."""
    match status:
        case 429:
            return "rate_limit_error"
        case 401:
            return "authentication_error"
        case 403:
            return "permission_error"
        case _ if status < 500:
            return "invalid_request_error"
        case _:
            return "server_error"
