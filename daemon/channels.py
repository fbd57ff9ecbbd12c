"""The channels through which notices go out: Telegram, a signed webhook, and apprise for all else.

Their `send` blocks and belongs in a thread. No name, error or repr of theirs holds a secret.
"""

import hashlib
import hmac
import http.client
import logging
import os
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from maxd.daemon.config import ConfigError
from maxd.daemon.notices import Message
from maxd.daemon.settings_notify import Notify

TELEGRAM_API = "https://api.telegram.org"
# The variables of Telegram. The last is for a Bot API server of one's own, and for tests.
TELEGRAM_TOKEN = "TELEGRAM_BOT_TOKEN"
TELEGRAM_CHAT = "TELEGRAM_NOTIFY_ID"
TELEGRAM_BASE = "TELEGRAM_API_BASE"
SIGNATURE = "X-Maxd-Signature"
# Of each step on the network; the notifier has a deadline for the whole.
STEP_SECONDS = 10.0
MOST_SECRETS_BYTES = 64 * 1024


class NotSent(Exception):
    """A message was not delivered. What it says is safe to show. `again`: another try may help,
    and cannot deliver it twice."""

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.again = again


class Channel(Protocol):
    """One way to the user."""

    @property
    def name(self) -> str:
        """What it is called in the log and the status; no secret."""
        ...

    def send(self, message: Message) -> None:
        """Deliver `message`, blocking. Raises NotSent."""
        ...


class Telegram:
    """A Telegram bot that writes to one chat. Not through apprise, whose plugin knows one host
    only and cannot say why a message was refused."""

    name = "telegram"

    def __init__(self, token: str, chat: str, base: str = TELEGRAM_API) -> None:
        self._url = f"{base.rstrip('/')}/bot{token}/sendMessage"
        self._chat = chat

    def send(self, message: Message) -> None:
        text = f"{message.title}\n\n{message.text}"
        body = msgspec.json.encode({"chat_id": self._chat, "text": text})
        try:
            _post(self._url, body, {})
        except _Refused as refused:
            hint = ""
            if refused.status in (401, 404):
                hint = f": is {TELEGRAM_TOKEN} right?"
            elif refused.status in (400, 403):
                hint = f": is {TELEGRAM_CHAT} right, and has that chat written to the bot?"
            raise NotSent(f"HTTP {refused.status}{hint}", again=refused.again) from None


class Payload(Struct, frozen=True):
    """The body of a webhook. `at` is in epoch seconds."""

    kind: str
    over: bool
    subject: str
    title: str
    text: str
    count: int
    host: str
    at: int


class Webhook:
    """A POST of a Payload to one address, signed with a shared secret.

    `X-Maxd-Signature: t=1700000000,v1=HEX`, where HEX is the HMAC-SHA256 of `1700000000.BODY`.
    """

    name = "webhook"

    def __init__(self, url: str, secret: str) -> None:
        self._url = url
        self._secret = secret.encode()

    def send(self, message: Message) -> None:
        notice = message.notice
        at = int(time.time())
        body = msgspec.json.encode(
            Payload(
                kind=notice.kind.value,
                over=notice.over,
                subject=notice.subject,
                title=message.title,
                text=message.text,
                count=message.count,
                host=socket.gethostname(),
                at=at,
            )
        )
        try:
            _post(self._url, body, {SIGNATURE: sign(self._secret, at, body)})
        except _Refused as refused:
            raise NotSent(f"HTTP {refused.status}", again=refused.again) from None


def sign(secret: bytes, at: int, body: bytes) -> str:
    """The value of the header that proves a webhook's body to be ours, and when it was sent."""
    code = hmac.new(secret, b"%d." % at + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={code}"


class Apprise:
    """One of the services that apprise knows, by its URL (`mailto://…`, `ntfy://…`, …)."""

    def __init__(self, url: str, number: int) -> None:
        self._url = url
        scheme = re.match(r"[a-z][a-z0-9+.-]{0,20}(?=:)", url, re.IGNORECASE)
        self.name = f"url {number} ({scheme[0].lower() if scheme else 'no URL'})"

    def send(self, message: Message) -> None:
        # Here, because it takes half a second that only those pay who use it.
        import apprise

        # Its log lines quote the URL, and with it the token.
        for logger in ("apprise", "requests", "urllib3"):
            logging.getLogger(logger).setLevel(logging.CRITICAL + 1)
        asset = apprise.AppriseAsset(app_id="maxd", async_mode=False)
        service = apprise.Apprise(asset=asset)
        if not service.add(self._url):
            raise NotSent("apprise does not understand this URL", again=False)
        kind = apprise.NotifyType.SUCCESS if message.notice.over else apprise.NotifyType.WARNING
        if not service.notify(body=message.text, title=message.title, notify_type=kind):
            # It does not say why, nor whether it was delivered.
            raise NotSent("apprise could not deliver it", again=False)


def open_channels(settings: Notify, environment: Mapping[str, str]) -> list[Channel]:
    """The channels of the settings and the variables. Raises ConfigError for a file that cannot be
    read, a webhook without a secret, or Telegram's variables where they cannot be used. A token
    alone is no problem: it may be there for another program."""
    problems: list[str] = []
    channels: list[Channel] = []
    token, chat = environment.get(TELEGRAM_TOKEN, ""), environment.get(TELEGRAM_CHAT, "")
    base = environment.get(TELEGRAM_BASE) or TELEGRAM_API
    if not chat:
        pass
    elif not re.fullmatch(r"[0-9]+:[A-Za-z0-9_-]+", token):
        problems.append(f"environment: {TELEGRAM_CHAT} needs a bot's token in {TELEGRAM_TOKEN}.")
    elif not re.fullmatch(r"https?://[^\s/@?#]+(?:/[^\s?#]*)?", base):
        problems.append(f"environment: {TELEGRAM_BASE} is no http:// or https:// address.")
    else:
        channels.append(Telegram(token, chat, base))
    secret = settings.webhook_secret
    if settings.webhook_secret_file:
        secret = _read("notify.webhook_secret_file", settings.webhook_secret_file, problems).strip()
    if settings.webhook and not secret:
        problems.append("notify.webhook: its messages are signed; set notify.webhook_secret.")
    elif settings.webhook:
        channels.append(Webhook(settings.webhook, secret))
    urls: Sequence[str] = settings.urls
    if settings.urls_file:
        lines = _read("notify.urls_file", settings.urls_file, problems).splitlines()
        cleaned = (line.strip() for line in lines)
        urls = [*urls, *(line for line in cleaned if line and not line.startswith("#"))]
    channels += [Apprise(url, number) for number, url in enumerate(urls, 1)]
    if problems:
        raise ConfigError(*problems)
    return channels


def _read(setting: str, name: str, problems: list[str]) -> str:
    """The text of a file of secrets, which no message quotes."""
    try:
        with Path(name).expanduser().open("rb") as file:
            return file.read(MOST_SECRETS_BYTES).decode()
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        problems.append(f"{setting}: {name} cannot be read: {reason}.")
    except UnicodeDecodeError:
        problems.append(f"{setting}: {name} is not UTF-8 text.")
    return ""


class _Refused(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status
        # It was understood and not taken, so it was not delivered.
        self.again = status == 429 or status >= 500


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without its body, or carry a signature elsewhere."""

    def redirect_request(self, *args: object) -> None:
        return None


def _post(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """POST JSON. Raises _Refused for any status that is no success, NotSent for all else."""
    # Only http and https: the settings' patterns see to that.
    request = urllib.request.Request(
        url, body, {"Content-Type": "application/json", "User-Agent": "maxd", **headers}
    )
    try:
        opener = urllib.request.build_opener(_NoRedirects)
        with opener.open(request, timeout=STEP_SECONDS) as response:
            response.read(MOST_SECRETS_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            raise _Refused(error.code) from None
    except urllib.error.URLError as error:
        # Before an answer: a connection that was refused, a name that is not known, TLS.
        raise NotSent(_reason(error.reason), again=True) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        # In the middle of it: it may have been delivered.
        raise NotSent(_reason(error), again=False) from None


def _reason(error: object) -> str:
    """Why, without the words of the error, which may quote the address."""
    if isinstance(error, TimeoutError):
        return f"no answer within {STEP_SECONDS:.0f} s"
    if isinstance(error, socket.gaierror):
        return "the host's name is not known"
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return type(error).__name__
