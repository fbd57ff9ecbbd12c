"""SIGHUP and an updated CLI, with turns running."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from tests.end_to_end.activation import FAKE_CLI, fake_cli_variables
from tests.end_to_end.running import DaemonProcess, LoopbackProcess

MODEL = "sonnet:chat"


class Site:
    """A daemon with a configuration file and a CLI that can be replaced."""

    def __init__(self, root: Path, base_url: str) -> None:
        self.config = root / "config.toml"
        self.cli = root / "claude"
        self.write(max_workers=4, spares=2)
        self.install("2.1.330")
        variables = fake_cli_variables(CLAUDE_CLI=str(self.cli))
        del variables["MAXD_POOL_WARM"]
        self.daemon = DaemonProcess(
            root,
            base_url,
            variables,
            command=[*DaemonProcess.COMMAND, "--config", str(self.config)],
            # The file is to be the only source of these.
            without=["MAXD_POOL_MAX_WORKERS"],
        )

    def write(self, **pool: int) -> None:
        lines = [f"{name} = {value}" for name, value in pool.items()]
        self.config.write_text("\n".join(["[pool]", 'warm = ["sonnet:chat"]', *lines]))

    def append(self, text: str) -> None:
        with self.config.open("a") as file:
            file.write("\n" + text)

    def status(self) -> Any:
        return httpx.get(f"{self.daemon.base_url}/status").json()

    def install(self, version: str) -> None:
        new = self.cli.with_name("claude.new")
        new.write_text(f'#!/bin/sh\nexport FAKE_CLI_VERSION={version}\nexec {FAKE_CLI} "$@"\n')
        new.chmod(0o755)
        new.replace(self.cli)

    def reload(self) -> None:
        self.daemon.process.send_signal(signal.SIGHUP)

    def workers(self, *words: str) -> list[psutil.Process]:
        """The fake CLIs that are alive, with these words on their command line."""
        wanted = {FAKE_CLI, *words}
        return [each for each in self.daemon.tree() if wanted <= {*_argv(each)}]


def ask(client: openai.OpenAI, model: str) -> None:
    client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hello"}])


def _argv(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture
def site(tmp_path: Path, model: LoopbackProcess) -> Iterator[Site]:
    site = Site(tmp_path, model.base_url)
    with site.daemon:
        yield site


def test_the_pool_adapts_and_drops_no_turn(site: Site) -> None:
    daemon = site.daemon.wait_serving()
    for _ in range(2):
        daemon.wait_log("worker ready")
    with daemon.client() as client:
        question = {"role": "user", "content": "<<fake tokens=30 delay=0.1>>"}
        stream = client.chat.completions.create(
            model=MODEL,
            messages=[question],  # type: ignore[list-item]
            stream=True,
        )
        next(iter(stream))
        site.write(max_workers=1, spares=1)
        site.reload()
        daemon.wait_log("configuration reloaded", applied=["pool.max_workers", "pool.spares"])
        daemon.wait_log("worker gone")
        site.config.write_text("[pool]\nspare = 1\n")
        site.reload()
        problems = daemon.wait_log("configuration not reloaded")["problems"]
        assert "pool.spare" in problems[0]
        *_, last = stream
        assert last.choices[0].finish_reason == "stop"  # type: ignore[union-attr]
        # It answers, still with the one worker that the last good configuration allows.
        for text in ("one", "two"):
            client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": text}]
            )
            # One that ends takes a moment to be gone.
            while len(site.workers()) > 1:
                daemon.wait_log("worker gone")
    assert daemon.stop() == 0


def test_a_profile_is_changed_added_and_removed_while_turns_run(site: Site) -> None:
    daemon = site.daemon.wait_serving()
    daemon.wait_log("worker ready")
    with daemon.client() as client:
        stream = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "<<fake tokens=30 delay=0.1>>"}],
            stream=True,
        )
        next(iter(stream))
        site.append('[models]\nquick = "haiku"\n[profiles.chat]\neffort = "low"\n')
        site.append('[profiles.mine]\nbase = "chat"\nmcp = "none"\n')
        site.reload()
        daemon.wait_log(
            "configuration reloaded", applied=["models", "profiles.chat", "profiles.mine"]
        )
        assert site.status()["reload"]["problems"] == []
        assert {"sonnet:mine", "quick:mine"} <= {model.id for model in client.models.list()}
        for model in ("sonnet:mine", "quick:chat", MODEL):
            ask(client, model)
        *_, last = stream
        assert last.choices[0].finish_reason == "stop"
        # The turn that ran has ended in its worker; all that are left have the new profile.
        while any("--effort=low" not in _argv(each) for each in site.workers("--model=sonnet")):
            daemon.wait_log("worker gone")
        site.write(max_workers=4, spares=2)
        site.reload()
        daemon.wait_log("configuration reloaded")
        with pytest.raises(openai.NotFoundError):
            ask(client, "sonnet:mine")
        ask(client, MODEL)
    assert daemon.stop() == 0


def test_what_is_wrong_or_not_in_force_is_shown(site: Site) -> None:
    daemon = site.daemon.wait_serving()
    assert site.status()["reload"] == {"at": None, "problems": [], "needs_restart": []}
    site.append("[server]\nmax_connections = 7\n")
    site.reload()
    daemon.wait_log("settings need a restart", settings=["server.max_connections"])
    site.append("[pool]\n")
    site.reload()
    daemon.wait_log("configuration not reloaded")
    site.write(max_workers=4, spares=2)
    site.append('[cli]\npath = "/dev/null/claude"\n')
    site.reload()
    assert "/dev/null/claude" in daemon.wait_log("configuration not reloaded")["problems"][0]
    with daemon.client() as client:
        ask(client, MODEL)
    site.write(max_workers=4, spares=2)
    site.append('[profiles.mine]\nbase = "chat"\ndirectory = "/dev/null/no"\n')
    site.reload()
    daemon.wait_log("configuration not reloaded")
    told = site.status()["reload"]
    assert told["at"] > 0
    assert "/dev/null/no" in told["problems"][0]
    assert told["needs_restart"] == ["server.max_connections"]
    shown = subprocess.run(
        [sys.executable, "-m", "maxd.daemon", "status", "--url", daemon.base_url],
        env=daemon.environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "configuration not reloaded" in shown
    assert "after a restart only: server.max_connections" in shown
    assert daemon.stop() == 0


def test_a_new_cli_is_taken_by_the_next_worker(site: Site) -> None:
    daemon = site.daemon.wait_serving()
    daemon.wait_log("worker ready", version="2.1.330")
    site.install("2.1.999")
    with daemon.client() as client:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello"}])
    daemon.wait_log("worker ready", version="2.1.999")
    assert daemon.stop() == 0
