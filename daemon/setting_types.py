"""Types that settings of several tables have in common. `title` says in words what the pattern
allows."""

from typing import Annotated, Any, Final

from msgspec import Meta, inspect

SECRET: Final = {"secret": True}
"""The `extra` of a setting whose value must not be shown, not even when it is wrong."""

# Relative paths would depend on where the daemon was started.
AbsolutePath = Annotated[
    str,
    Meta(
        title="an absolute path (~/ is understood) or empty",
        pattern=r"\A(?:(?:/|~/)[^\0]*)?\Z",
        max_length=1024,
    ),
]
ServiceUrl = Annotated[
    str,
    Meta(
        title="a URL of apprise such as ntfy://host/topic",
        pattern=r"\A[A-Za-z][A-Za-z0-9+.-]*://[^\s]+\Z",
        max_length=4096,
    ),
]
HttpUrl = Annotated[
    str,
    Meta(
        title="an http:// or https:// address or empty",
        pattern=r"\A(?:https?://[^\s/@?#]+(?:[/?][^\s#]*)?)?\Z",
        max_length=4096,
    ),
]
Host = Annotated[
    str,
    Meta(
        title="a host name or an address",
        pattern=r"\A[A-Za-z0-9._:%\[\]-]+\Z",
        max_length=255,
    ),
]
Origin = Annotated[
    str,
    Meta(
        title="an origin such as https://app.example",
        pattern=r"\A[a-z][a-z0-9+.-]*://[^/\s@]+\Z",
        max_length=255,
    ),
]


def is_secret(annotation: Any) -> bool:
    """Whether a setting is annotated with SECRET."""
    info = inspect.type_info(annotation)
    return isinstance(info, inspect.Metadata) and (info.extra or {}).get("secret") is True
