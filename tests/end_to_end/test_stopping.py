"""How the daemon ends: asked, asked twice, killed; and how the next one starts."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import psutil
import pytest

from tests.end_to_end.running import DaemonProcess, LoopbackProcess, directive

MODEL = "sonnet:chat"


@pytest.fixture
def daemon(tmp_path: Path, model: LoopbackProcess) -> Iterator[DaemonProcess]:
    with DaemonProcess(tmp_path, model.base_url, {"MAXD_SERVER_DRAIN_SECONDS": "3"}) as daemon:
        yield daemon.wait_serving()


def begin(client: openai.OpenAI, **reply: object) -> "openai.Stream[object]":
    """A stream whose first text has come."""
    stream = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": directive(**reply)}], stream=True
    )
    for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    return stream  # type: ignore[return-value]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stream_that_ends_in_time_ends_whole(daemon: DaemonProcess, number: int) -> None:
    with daemon.client() as client:
        stream = begin(client, words=10, pace=0.1)
        daemon.process.send_signal(number)
        daemon.wait_log("stopping")
        with pytest.raises(openai.InternalServerError) as refused:
            client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "too late"}]
            )
        assert refused.value.status_code == 503
        assert refused.value.response.headers["retry-after"]
        *_, last = stream
        assert last.choices[0].finish_reason == "stop"  # type: ignore[attr-defined]
    assert daemon.wait() == 0


def test_a_stream_that_does_not_is_told(daemon: DaemonProcess) -> None:
    tree = daemon.tree()
    with daemon.client() as client:
        stream = begin(client, words=1000, pace=0.1)
        asked = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        with pytest.raises(openai.APIError, match="stopping"):
            list(stream)
        assert daemon.wait() == 0
        # The drain time, and a margin for a loaded machine.
        assert time.monotonic() - asked < 3 + 5
    assert alive(tree) == []


def test_a_second_signal_ends_it_at_once(daemon: DaemonProcess) -> None:
    tree = daemon.tree()
    with daemon.client() as client:
        stream = begin(client, words=1000, pace=0.1)
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_log("stopping")
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.wait() == 130
        stream.close()
    assert alive(tree) == []


def test_killed_in_mid_stream_it_leaves_nothing_and_starts_again(
    daemon: DaemonProcess, model: LoopbackProcess, tmp_path: Path
) -> None:
    with daemon.client() as client:
        stream = begin(client, words=1000, pace=0.1)
        tree = daemon.tree()
        assert len(tree) >= 4, "keepers and workers"
        daemon.process.kill()
        daemon.wait()
        _, left = psutil.wait_procs(tree, timeout=2)
        assert left == []
        stream.close()
    with DaemonProcess(tmp_path, model.base_url) as next_one:
        next_one.wait_serving()
        with next_one.client() as client:
            answer = client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": directive(text="Back")}]
            )
        assert answer.choices[0].message.content == "Back"
        assert next_one.stop() == 0


def test_a_second_instance_is_refused(
    daemon: DaemonProcess, model: LoopbackProcess, tmp_path: Path
) -> None:
    with DaemonProcess(tmp_path, model.base_url) as second:
        assert second.wait() != 0
        assert str(daemon.process.pid) in str(second.log)
    assert daemon.stop() == 0


def test_a_client_that_does_not_read_does_not_hold_up_the_end(daemon: DaemonProcess) -> None:
    with daemon.client() as client:
        stream = begin(client, words=500_000)
        started = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - started < 3 + 10
        stream.close()
