"""The one spelling of a path, whatever the base URL of the client was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxd.http.front import normal_path


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("/v1/chat/completions", "/chat/completions"),
        ("/chat/completions", "/chat/completions"),
        ("/v1/chat/completions/", "/chat/completions"),
        ("//v1//chat///completions//", "/chat/completions"),
        ("/v1", "/"),
        ("/v1/", "/"),
        ("/", "/"),
        ("//", "/"),
        ("", "/"),
        ("/v1/models", "/models"),
        ("/models/", "/models"),
        ("/v1/models/anthropic/claude-sonnet-4:chat", "/models/anthropic/claude-sonnet-4:chat"),
        # Only the first segment is the base URL's, and only this version of it.
        ("/v1/models/v1", "/models/v1"),
        ("/v1/v1/models", "/v1/models"),
        ("/V1/models", "/V1/models"),
        ("/v10/models", "/v10/models"),
        ("/v2/models", "/v2/models"),
        ("/api/v1/models", "/api/v1/models"),
        # Nothing is resolved: such a path is a route that does not exist.
        ("/v1/../health", "/../health"),
        ("/./health", "/./health"),
        ("/health ", "/health "),
        ("/health\n", "/health\n"),
        ("*", "/*"),
    ],
)
def test_base_urls_come_with_and_without_the_version_and_with_too_many_slashes(
    path: str, normal: str
) -> None:
    assert normal_path(path) == normal


@given(st.lists(st.sampled_from(["", "v1", "models", "a:b", "..", "\u00e9"])).map("/".join))
def test_a_normal_path_has_single_slashes_and_loses_at_most_the_version(path: str) -> None:
    normal = normal_path(path)
    assert normal.startswith("/")
    assert "//" not in normal
    assert normal == "/" or not normal.endswith("/")
    segments = [segment for segment in path.split("/") if segment]
    kept = [segment for segment in normal.split("/") if segment]
    assert kept in (segments, segments[1:])
    assert (kept != segments) is (segments[:1] == ["v1"])
