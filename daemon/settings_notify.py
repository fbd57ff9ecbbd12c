"""The settings of the notifications."""

from typing import Annotated

from msgspec import Meta, Struct

from maxd.daemon.setting_types import SECRET, AbsolutePath, HttpUrl, ServiceUrl


class Notify(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is told when something needs the user. Telegram is set up by environment variables."""

    urls: Annotated[
        tuple[ServiceUrl, ...],
        Meta(
            description="Services to notify, as URLs of apprise; they hold tokens and are never "
            "shown.",
            max_length=64,
            extra=SECRET,
        ),
    ] = ()
    urls_file: Annotated[
        AbsolutePath,
        Meta(description="A file with more such URLs, one a line, so that none stands here."),
    ] = ""
    webhook: Annotated[
        HttpUrl,
        Meta(description="An address that gets each notice as signed JSON.", extra=SECRET),
    ] = ""
    webhook_secret: Annotated[
        str,
        Meta(
            title="up to 1024 characters",
            description="The key of the signature; required with a webhook.",
            max_length=1024,
            extra=SECRET,
        ),
    ] = ""
    webhook_secret_file: Annotated[
        AbsolutePath, Meta(description="A file with that key, so that it does not stand here.")
    ] = ""
    interval_minutes: Annotated[
        float,
        Meta(
            description="How long more of the same are only counted after a notice, in minutes.",
            ge=0,
            le=10_080,
        ),
    ] = 15

    def __repr__(self) -> str:
        return f"<Notify with {len(self.urls)} URLs>"
