"""The channels against a Bot API, a webhook and an apprise target on loopback."""

import hashlib
import hmac
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from maxd.daemon.channels import Apprise, NotSent, Telegram, Webhook, open_channels
from maxd.daemon.config import ConfigError
from maxd.daemon.notices import Message, backend_available, trial_notice
from maxd.daemon.settings_notify import Notify
from tests.fakes.bot_api import BotApi

# On Python 3.11 and 3.12 a plugin of apprise imports a module of the library that was to go.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")

TOKEN = "123456789:canary-token_x"
SECRET = "canary-secret"
MESSAGE = Message(trial_notice())
# The discard port: nothing listens there.
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def api() -> Iterator[BotApi]:
    with BotApi() as api:
        yield api


def test_telegram(api: BotApi) -> None:
    Telegram(TOKEN, "42", api.base).send(MESSAGE)
    (post,) = api.posts
    assert post.path == f"/bot{TOKEN}/sendMessage"
    assert post.json == {"chat_id": "42", "text": f"{MESSAGE.title}\n\n{MESSAGE.text}"}


def test_webhook(api: BotApi) -> None:
    webhook = Webhook(f"{api.base}/hook?key=1", SECRET)
    webhook.send(Message(backend_available(), 3))
    (post,) = api.posts
    assert post.path == "/hook?key=1"
    signature = re.fullmatch(r"t=([0-9]+),v1=([0-9a-f]{64})", post.headers["x-maxd-signature"])
    assert signature is not None
    signed = signature[1].encode() + b"." + post.body
    assert signature[2] == hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert post.json["at"] == int(signature[1])
    assert post.json["kind"] == "backend_unavailable"
    assert (post.json["over"], post.json["count"]) == (True, 3)
    assert post.headers["content-type"] == "application/json"


def test_apprise(api: BotApi) -> None:
    Apprise(f"json://127.0.0.1:{api.port}/path", 1).send(MESSAGE)
    (post,) = api.posts
    assert post.path == "/path"
    assert post.json["title"] == MESSAGE.title
    assert MESSAGE.text in post.json["message"]


@pytest.mark.parametrize(
    ("status", "again", "words"),
    [
        (400, False, "TELEGRAM_NOTIFY_ID"),
        (401, False, "TELEGRAM_BOT_TOKEN"),
        (403, False, "TELEGRAM_NOTIFY_ID"),
        (404, False, "TELEGRAM_BOT_TOKEN"),
        (429, True, "HTTP 429"),
        (500, True, "HTTP 500"),
        (302, False, "HTTP 302"),
        (0, False, "RemoteDisconnected"),
    ],
)
def test_what_telegram_refuses(status: int, again: bool, words: str) -> None:
    with BotApi(status) as api:
        with pytest.raises(NotSent, match=words) as refused:
            Telegram(TOKEN, "42", api.base).send(MESSAGE)
        # No redirect is followed.
        assert len(api.posts) == 1
    assert refused.value.again is again


@pytest.mark.parametrize(
    ("base", "words"), [(NOBODY, "refused"), ("http://nowhere.invalid", "not known")]
)
def test_a_host_that_cannot_be_reached(base: str, words: str) -> None:
    for channel in (Telegram(TOKEN, "42", base), Webhook(f"{base}/{SECRET}", SECRET)):
        with pytest.raises(NotSent, match=words) as failed:
            channel.send(MESSAGE)
        assert failed.value.again


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"nosuch://{SECRET}@host/", "does not understand"),
        (f"json://user:{SECRET}@127.0.0.1:9/", "could not deliver"),
        (f"tgram://{SECRET}/", "does not understand"),
    ],
)
def test_no_secret_is_told(
    url: str, words: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    channel = Apprise(url, 2)
    with pytest.raises(NotSent, match=words) as failed:
        channel.send(MESSAGE)
    out, err = capfd.readouterr()
    for text in (channel.name, repr(channel), str(failed.value), out, err):
        assert "canary" not in text
    assert channel.name.startswith("url 2 (")
    # Not even at the level that nobody sets: it would be one setting away.
    assert "canary" not in caplog.text


def test_secrets_in_files(tmp_path: Path) -> None:
    (tmp_path / "urls").write_text("# mine\njson://one\n\n  ntfy://two/topic  \n")
    (tmp_path / "secret").write_text("key\n")
    settings = Notify(
        urls=("json://zero",),
        urls_file=str(tmp_path / "urls"),
        webhook="https://example.org/hook",
        webhook_secret_file=str(tmp_path / "secret"),
    )
    environment = {"TELEGRAM_BOT_TOKEN": TOKEN, "TELEGRAM_NOTIFY_ID": "-100"}
    names = [channel.name for channel in open_channels(settings, environment)]
    assert names == ["telegram", "webhook", "url 1 (json)", "url 2 (json)", "url 3 (ntfy)"]


@pytest.mark.parametrize(
    ("settings", "environment", "words"),
    [
        (Notify(urls_file="/no/such/file"), {}, "notify.urls_file: /no/such/file cannot be read"),
        (Notify(urls_file="/"), {}, "notify.urls_file: / cannot be read: Is a directory"),
        (Notify(webhook="http://x/canary"), {}, "set notify.webhook_secret"),
        (Notify(), {"TELEGRAM_NOTIFY_ID": "1"}, "needs a bot's token"),
        (Notify(), {"TELEGRAM_BOT_TOKEN": "canary", "TELEGRAM_NOTIFY_ID": "1"}, "needs a bot's"),
        (
            Notify(),
            {
                "TELEGRAM_BOT_TOKEN": TOKEN,
                "TELEGRAM_NOTIFY_ID": "1",
                "TELEGRAM_API_BASE": "file:///etc/canary",
            },
            "TELEGRAM_API_BASE is no http",
        ),
    ],
)
def test_what_cannot_be_used_is_told_at_the_start(
    settings: Notify, environment: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        open_channels(settings, environment)
    assert "canary" not in str(refused.value)


def test_nothing_is_set_up_by_default() -> None:
    assert open_channels(Notify(), {}) == []
    # Other programs have bots too.
    assert open_channels(Notify(), {"TELEGRAM_BOT_TOKEN": TOKEN}) == []
    assert "canary" not in repr(Notify(webhook_secret="canary", urls=("json://canary",)))
