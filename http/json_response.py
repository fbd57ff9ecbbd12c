"""A reply that is one JSON object."""

from quart import Response


def json_response(body: bytes) -> Response:
    """The reply whose body is this."""
    return Response(body, content_type="application/json")
