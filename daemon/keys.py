"""API keys: who may use the service, and how much. Only the hash of a key is ever kept.

A key is 256 random bits, so a plain SHA-256 says nothing of it: there is no list of likely keys to
try. (For passwords that would be wrong.)
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Annotated, Final

from msgspec import Meta, Struct

from maxd.daemon.setting_types import SECRET

PREFIX: Final = "maxd-"
NAME_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"

KeyName = Annotated[
    str, Meta(title="a name of letters, digits and . _ -", pattern=rf"\A{NAME_PATTERN}\Z")
]


class ApiKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key as the configuration knows it. A limit of 0 is none."""

    hash: Annotated[
        str,
        Meta(
            description="SHA-256 of the key, in hexadecimal.",
            pattern=r"\A[0-9a-f]{64}\Z",
        ),
    ]
    max_concurrent: Annotated[int, Meta(description="Turns at once.", ge=0, le=100_000)] = 0
    requests_per_minute: Annotated[int, Meta(description="Turns a minute.", ge=0, le=10**6)] = 0
    tokens_per_minute: Annotated[
        int, Meta(description="Tokens a minute, in and out.", ge=0, le=10**12)
    ] = 0


ApiKeys = Annotated[
    dict[KeyName, ApiKey],
    Meta(
        title="tables [keys.NAME] with hash, max_concurrent, requests_per_minute and "
        "tokens_per_minute",
        description="API keys by name, as `maxd key new` prints them: with any, every request but "
        "/health and the dashboard's empty page needs one.",
        max_length=1024,
        # Somebody may write the key where its hash belongs.
        extra=SECRET,
    ),
]


def new_key() -> str:
    """A new key. It is shown once and kept nowhere."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(key: bytes) -> str:
    """What is kept of `key`."""
    return hashlib.sha256(key).hexdigest()


class KeyRing:
    """The keys that are accepted; they may change while it is in use."""

    def __init__(self, keys: Mapping[str, ApiKey]) -> None:
        self.keys = keys

    def __bool__(self) -> bool:
        """Whether a key is needed at all."""
        return bool(self.keys)

    def find(self, presented: bytes) -> str | None:
        """The name of the key that was presented; None for one that is not accepted. How long it
        takes says nothing of which key was nearly right."""
        digest = hash_of(presented).encode()
        found = None
        for name, key in self.keys.items():
            if hmac.compare_digest(digest, key.hash.encode()):
                found = name
        return found
