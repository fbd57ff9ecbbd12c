"""Faults in Anthropic's shape: status, headers and the envelope that its SDKs raise from."""

import msgspec
from msgspec import UNSET, Struct, UnsetType

from maxd.http.error_headers import error_headers
from maxd.http.guard import Reply
from maxd.workers.faults import ContextTooLong, Fault

OVERLOADED = 529
"""Anthropic's own status for what is 503 elsewhere."""

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    504: "timeout_error",
    OVERLOADED: "overloaded_error",
}


class ErrorDetails(Struct):
    """`error_code` is the fault's code; the SDK shows it as an attribute."""

    error_code: str


class ErrorBody(Struct):
    type: str
    message: str
    details: ErrorDetails | UnsetType = UNSET


class ErrorEnvelope(Struct, tag_field="type", tag="error"):
    error: ErrorBody
    request_id: str


def envelope(fault: Fault, request_id: str) -> bytes:
    """The JSON body, which is also the data of an error event in a stream."""
    status = status_of(fault)
    return msgspec.json.encode(
        ErrorEnvelope(
            ErrorBody(
                TYPES.get(status, "invalid_request_error" if status < 500 else "api_error"),
                _message(fault),
                UNSET if fault.code is None else ErrorDetails(fault.code),
            ),
            request_id,
        )
    )


def render(fault: Fault, request_id: str) -> Reply:
    """The whole reply that tells `fault`."""
    body = envelope(fault, request_id)
    headers = [(b"request-id", request_id.encode()), *error_headers(fault, body)]
    return status_of(fault), headers, body


def status_of(fault: Fault) -> int:
    """The status in which Anthropic tells such a fault."""
    return OVERLOADED if fault.status == 503 and fault.code == "overloaded" else fault.status


def _message(fault: Fault) -> str:
    if isinstance(fault, ContextTooLong):
        # Clients look for these words to shorten the conversation by themselves.
        return f"prompt is too long: {fault.message}"
    if fault.param and not fault.message.startswith(fault.param):
        return f"{fault.param}: {fault.message}"
    return fault.message
