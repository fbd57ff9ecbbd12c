"""The account's usage windows, told by the real CLI with a login that has them."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.end_to_end.running import DaemonProcess, LoopbackProcess, directive

# A login of the kind that has usage windows, in place of the key.
SUBSCRIPTION = {
    "ANTHROPIC_API_KEY": "",
    "CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-loopback",
    "MAXD_POOL_WARM": "sonnet:chat",
    # The probe of resets starts workers of its own.
    "MAXD_POOL_REUSE": "false",
}


def ask(client: openai.OpenAI, model: str = "sonnet:chat", **reply: Any) -> Any:
    """The raw response to a prompt that asks the loopback model for `reply`."""
    return client.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": directive(**reply)}]
    )


def refused(client: openai.OpenAI, model: str = "sonnet:chat", **reply: Any) -> Any:
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client, model, **reply)
    return caught.value


def pids(daemon: DaemonProcess) -> set[int]:
    return {process.pid for process in daemon.tree()}


def test_a_used_up_window_refuses_at_once_until_it_begins_anew(
    tmp_path: Path, model: LoopbackProcess
) -> None:
    with DaemonProcess(tmp_path, model.base_url, SUBSCRIPTION) as daemon:
        daemon.wait_serving()
        daemon.wait_log("worker ready")
        with daemon.client() as client:
            resets_at = int(time.time()) + 20
            error = refused(client, limit={"status": "rejected", "resets_at": resets_at})
            assert error.code == "rate_limit_exceeded"
            assert error.type == "rate_limit_error"
            closed = daemon.wait_log("usage window used up")
            assert (closed["window"], closed["resets_at"]) == ("five_hour", resets_at)
            # Its worker's place is taken by another; then nothing moves any more.
            daemon.wait_log("worker died")
            daemon.wait_log("worker ready")
            before = pids(daemon)
            began = time.time()
            with ThreadPoolExecutor(10) as pool:
                errors = list(pool.map(lambda _: refused(client, text="never"), range(20)))
            ended = time.time()
            for error in errors:
                wait = int(error.response.headers["retry-after"])
                assert resets_at - ended <= wait < resets_at - began + 1
                assert error.response.headers["x-ratelimit-remaining-requests"] == "0"
                assert error.response.headers["anthropic-ratelimit-unified-status"] == "rejected"
            assert pids(daemon) == before
            assert len(model.requests()) == 1
            # The SDK waits for as long as it is told, and asks once more.
            patient = client.with_options(max_retries=1)
            assert ask(patient, text="again").parse().choices[0].message.content == "again"
            assert time.time() >= resets_at
            assert len(model.requests()) == 2
        assert daemon.stop() == 0


def test_a_running_turn_goes_on_while_others_are_refused(
    tmp_path: Path, model: LoopbackProcess
) -> None:
    with (
        DaemonProcess(tmp_path, model.base_url, SUBSCRIPTION) as daemon,
        daemon.wait_serving().client() as client,
        client.chat.completions.create(
            model="sonnet:chat",
            messages=[{"role": "user", "content": directive(words=30, pace=0.1)}],
            stream=True,
        ) as stream,
    ):
        words = [next(stream).choices[0].delta.content or ""]
        refused(client, limit={"status": "rejected"})
        assert 3000 < int(refused(client, text="x").response.headers["retry-after"]) <= 3601
        assert refused(client, text="x").response.headers["x-should-retry"] == "false"
        words += [chunk.choices[0].delta.content or "" for chunk in stream]
        assert len("".join(words).split()) == 30
        # It has begun before: that it was allowed opens nothing.
        refused(client, text="x")
        assert daemon.stop() == 0


def test_a_window_of_one_family_leaves_the_others_open(
    tmp_path: Path, model: LoopbackProcess
) -> None:
    with (
        DaemonProcess(tmp_path, model.base_url, SUBSCRIPTION) as daemon,
        daemon.wait_serving().client() as client,
    ):
        of_family = {"status": "rejected", "window": "seven_day_overage_included"}
        refused(client, "opus:chat", limit=of_family)
        refused(client, "claude-opus-4-5:chat", text="x")
        assert ask(client, "sonnet:chat", text="open").parse().choices[0].message.content == "open"
        assert len(model.requests()) == 2
        assert daemon.stop() == 0


def test_a_short_rate_limit_and_extra_usage_close_nothing(
    tmp_path: Path, model: LoopbackProcess
) -> None:
    unified = "anthropic-ratelimit-unified"
    extra = {
        f"{unified}-status": "rejected",
        f"{unified}-reset": str(int(time.time()) + 3600),
        f"{unified}-representative-claim": "five_hour",
        f"{unified}-overage-status": "allowed",
    }
    with (
        DaemonProcess(tmp_path, model.base_url, SUBSCRIPTION) as daemon,
        daemon.wait_serving().client() as client,
    ):
        for limit in ({"error": 429}, {"error": 429, "limit": {"status": "allowed"}}):
            error = refused(client, **limit)
            assert error.response.headers["retry-after"] == "10"
            assert "x-should-retry" not in error.response.headers
        ask(client, text="x", headers=extra)
        ask(client, text="x")
        warned = {"status": "allowed_warning", "utilization": 0.914, "resets_in": 3600}
        ask(client, text="x", limit=warned)
        headers = ask(client, text="x").headers
        assert headers["x-ratelimit-limit-requests"] == "100"
        assert headers["x-ratelimit-remaining-requests"] == "8"
        assert headers["x-ratelimit-reset-requests"].startswith(("59m", "1h0m"))
        assert headers["anthropic-ratelimit-unified-5h-status"] == "allowed_warning"
        assert headers["anthropic-ratelimit-unified-5h-utilization"] == "0.914"
        assert daemon.stop() == 0


def test_a_key_tells_nothing_of_windows_and_one_that_outranks_a_login_is_reported(
    tmp_path: Path, model: LoopbackProcess
) -> None:
    both = {name: value for name, value in SUBSCRIPTION.items() if name != "ANTHROPIC_API_KEY"}
    with (
        DaemonProcess(tmp_path, model.base_url, both) as daemon,
        daemon.wait_serving().client() as client,
    ):
        error = refused(client, limit={"status": "rejected"})
        assert error.response.headers["retry-after"] == "10"
        headers = ask(client, text="x", limit={"status": "allowed_warning"}).headers
        assert not [name for name in headers if "ratelimit" in name]
        assert daemon.stop() == 0
        [report] = [entry for entry in daemon.log if "outranks the login" in entry["event"]]
        assert report["login"] == "oauth_token"
        assert "loopback" not in str(report)
