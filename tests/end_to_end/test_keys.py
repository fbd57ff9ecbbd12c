"""API keys in the real daemon: who is served, how much, and what the log says of it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.end_to_end.activation import fake_cli_variables
from tests.end_to_end.running import STOP_SECONDS, DaemonProcess, LoopbackProcess

MODEL = "sonnet:chat"


class Site:
    """A daemon whose keys are in the file beside its configuration."""

    def __init__(self, root: Path, base_url: str) -> None:
        self.root = root
        self.config = root / "config.toml"
        self.config.write_text('[profiles.finishing]\nbase = "chat"\non_disconnect = "finish"\n')
        self.key = self.maxd("new", "laptop", "--requests-per-minute", "2").strip()
        self.free = self.maxd("new", "desk.top").strip()
        self.single = self.maxd("new", "single", "--max-concurrent", "1").strip()
        self.daemon = DaemonProcess(
            root,
            base_url,
            fake_cli_variables(MAXD_SERVER_ADMIN_SOCKET=str(root / "a.sock")),
            command=[*DaemonProcess.COMMAND, "--config", str(self.config)],
        )

    def maxd(self, *words: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "maxd.daemon", "key", *words, "--config", str(self.config)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def ask(self, key: str, **headers: str) -> Any:
        with self.daemon.client(api_key=key) as client:
            raw = client.chat.completions.with_raw_response.create(
                model=MODEL,
                messages=[{"role": "user", "content": "hello"}],
                extra_headers=headers,
            )
            return raw.http_response

    def leave(self, key: str) -> None:
        """Ask for something that takes seconds, and go away at its first word."""
        prompt = "<<fake tokens=100 delay=0.02>>"
        with (
            self.daemon.client(api_key=key) as client,
            client.chat.completions.create(
                model="sonnet:finishing",
                messages=[{"role": "user", "content": prompt}],
                stream=True,
            ) as stream,
        ):
            next(chunk for chunk in stream if chunk.choices[0].delta.content)


@pytest.fixture
def site(tmp_path: Path, model: LoopbackProcess) -> Iterator[Site]:
    site = Site(tmp_path, model.base_url)
    with site.daemon:
        site.daemon.wait_serving()
        yield site


def test_keys_names_and_quotas(site: Site) -> None:
    daemon = site.daemon
    with pytest.raises(openai.AuthenticationError):
        site.ask("not-needed")
    reply = site.ask(site.key)
    assert reply.headers["x-ratelimit-limit-requests"] == "2"
    assert reply.headers["x-ratelimit-remaining-requests"] == "1"
    assert daemon.wait_log("turn")["key"] == "laptop"
    site.ask(site.key)
    with pytest.raises(openai.RateLimitError) as limited:
        site.ask(site.key)
    assert 1 <= int(limited.value.response.headers["retry-after"]) <= 31
    assert limited.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert "x-ratelimit-limit-requests" not in site.ask(site.free).headers
    # A key that is revoked counts no more after a reload.
    site.maxd("revoke", "desk.top")
    daemon.process.send_signal(1)
    daemon.wait_log("configuration reloaded", applied=["keys"])
    with pytest.raises(openai.AuthenticationError):
        site.ask(site.free)
    assert daemon.stop() == 0
    for key in (site.key, site.free):
        assert key not in str(daemon.log)


def test_a_turn_that_is_left_counts_until_it_ends(site: Site) -> None:
    site.leave(site.single)
    with pytest.raises(openai.RateLimitError, match="1 turns running at once"):
        site.ask(site.single)
    assert site.daemon.wait_log("turn", key="single")["outcome"] == "finished"
    assert site.ask(site.single).status_code == 200


def test_a_request_that_is_refused_counts_no_longer(site: Site) -> None:
    for name, value in (
        ("X-Maxd-Stream", "sideways"),
        ("X-Conversation-Id", "no id"),
    ):
        with pytest.raises(openai.BadRequestError):
            site.ask(site.single, **{name: value})
    assert site.ask(site.single).status_code == 200


def test_status_comes_from_the_operators_socket_without_a_key(site: Site) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "maxd.daemon", "status", "--json"],
        env=site.daemon.environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert f'"pid":{site.daemon.process.pid}' in shown.replace(" ", "")
    key = {"x-api-key": site.free}
    assert httpx.get(f"{site.daemon.base_url}/status", headers=key).status_code == 404


def serve(root: Path, base_url: str, *words: str, **variables: str) -> DaemonProcess:
    command = [*DaemonProcess.COMMAND, *words]
    return DaemonProcess(root, base_url, fake_cli_variables(**variables), command=command)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_beyond_loopback_it_needs_a_key(tmp_path: Path, model: LoopbackProcess, host: str) -> None:
    with serve(tmp_path, model.base_url, MAXD_SERVER_HOST=host) as daemon:
        assert daemon.wait(STOP_SECONDS) == 78
        assert "maxd key new" in str(daemon.log)


def test_with_a_key_it_may_listen_beyond_loopback(site: Site, model: LoopbackProcess) -> None:
    root = site.root / "other"
    root.mkdir()
    words = ("--config", str(site.config), "--host", "0.0.0.0")
    with serve(root, model.base_url, *words) as daemon:
        daemon.wait_serving()
        port = daemon.base_url.rpartition(":")[2]
        reply = httpx.get(f"http://127.0.0.1:{port}/v1/models")
        assert reply.status_code == 401
        # The last key cannot be taken away from an address that others can reach.
        (site.root / "keys.toml").unlink()
        daemon.process.send_signal(1)
        problems = daemon.wait_log("configuration not reloaded")["problems"]
        assert "maxd key new" in problems[0]
        assert httpx.get(f"http://127.0.0.1:{port}/v1/models").status_code == 401
        assert daemon.stop() == 0


def test_a_unix_socket_and_the_operators(tmp_path: Path, model: LoopbackProcess) -> None:
    path = tmp_path / "m.sock"
    with serve(tmp_path, model.base_url, MAXD_SERVER_UNIX_SOCKET=str(path)) as daemon:
        daemon.wait_serving()
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, base_url="http://localhost") as client:
            assert client.get("/health").status_code == 200
        daemon.process.kill()
        daemon.wait()
        assert path.exists()
    # What a killed one has left does not keep the next from starting.
    with serve(tmp_path, model.base_url, MAXD_SERVER_UNIX_SOCKET=str(path)) as daemon:
        daemon.wait_serving()
        assert daemon.stop() == 0
    assert not path.exists()
