"""What the service manager hears, and restarts under load that nobody notices."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.activation import Manager, fake_cli_variables
from tests.end_to_end.running import LoopbackProcess

# `MAXD_RESTARTS=100` for the whole of it.
RESTARTS = int(os.environ.get("MAXD_RESTARTS", "3"))
CLIENTS = 6
WORDS = 5


@pytest.fixture
def manager(tmp_path: Path, model: LoopbackProcess) -> Iterator[Manager]:
    manager = Manager(tmp_path, model.base_url, fake_cli_variables(WATCHDOG_USEC="1000000"))
    yield manager
    manager.close()


def test_it_is_ready_with_a_spare_alive_and_stopping(manager: Manager) -> None:
    with manager.start() as daemon:
        ready = manager.wait("READY=1")
        assert "1 spares" in ready
        assert any(state["event"] == "worker ready" for state in daemon.log)
        manager.wait("WATCHDOG=1")
        # Nothing of it is told to the workers.
        processes = daemon.tree()
        assert processes
        for process in processes:
            names = set(process.environ())
            assert not names & {"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "WATCHDOG_USEC"}
        # A daemon that does not turn is not called alive.
        daemon.process.send_signal(signal.SIGSTOP)
        manager.forget()
        with pytest.raises(AssertionError, match="no 'WATCHDOG=1'"):
            manager.wait("WATCHDOG=1", seconds=2)
        daemon.process.send_signal(signal.SIGCONT)
        manager.wait("WATCHDOG=1")
        assert daemon.stop() == 0
        manager.wait("STOPPING=1")


def test_logged_out_it_says_why_instead_of_timing_out(
    tmp_path: Path, model: LoopbackProcess
) -> None:
    variables = fake_cli_variables(FAKE_CLI_AUTH="logged_out")
    manager = Manager(tmp_path, model.base_url, variables)
    try:
        with manager.start() as daemon:
            ready = manager.wait("READY=1")
            assert "STATUS=degraded: the claude CLI is not logged in" in ready
            assert daemon.stop() == 0
    finally:
        manager.close()


class Load:
    """Clients that ask all the time, each request on a connection of its own."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.outcomes: Counter[str] = Counter()
        self._end = threading.Event()
        self._clients = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for client in self._clients:
            client.start()

    def _ask(self) -> None:
        body = {
            "model": "sonnet:chat",
            "messages": [{"role": "user", "content": f"<<fake tokens={WORDS} delay=0.02>>"}],
        }
        with httpx.Client(timeout=60, limits=httpx.Limits(max_keepalive_connections=0)) as client:
            while not self._end.is_set():
                try:
                    reply = client.post(f"{self.base}/v1/chat/completions", json=body)
                except httpx.HTTPError as error:
                    self.outcomes[type(error).__name__] += 1
                    continue
                if reply.status_code != 200:
                    self.outcomes[f"{reply.status_code} {reply.text}"] += 1
                    continue
                text = reply.json()["choices"][0]["message"]["content"]
                whole = len(text.split()) == WORDS
                self.outcomes["whole" if whole else f"cut: {text}"] += 1

    def stop(self) -> None:
        self._end.set()
        for client in self._clients:
            client.join(90)


def test_restarts_under_load_refuse_no_connection_and_lose_no_answer(manager: Manager) -> None:
    daemon = manager.start()
    load = Load(manager.base)
    try:
        for _ in range(RESTARTS):
            manager.wait("READY=1")
            before = load.outcomes["whole"]
            with daemon:
                while load.outcomes["whole"] < before + CLIENTS:
                    daemon.wait_log("turn")
                assert daemon.stop() == 0
            daemon = manager.start()
        manager.wait("READY=1")
    finally:
        load.stop()
        with daemon:
            daemon.stop()
    print(f"\n{RESTARTS} restarts: {dict(load.outcomes)}")
    assert set(load.outcomes) == {"whole"}
    assert load.outcomes["whole"] >= RESTARTS * CLIENTS
