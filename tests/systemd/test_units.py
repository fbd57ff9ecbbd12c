"""The units under a systemd that runs: what `maxd service install` makes of a machine, with the
real CLI and the loopback model.

`make test-systemd` makes the container's tree and runs this.
"""

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.running import directive
from tests.systemd.container import BIN, TESTS, Container

# `MAXD_RESTARTS=100` for the whole of it.
RESTARTS = int(os.environ.get("MAXD_RESTARTS", "5"))
CLIENTS = 6
ANN = "ann"
URL = "http://127.0.0.1:3456"
SERVICE = "maxd.service"
# A start takes about 1.5 s, after the watchdog's 30 s at most.
RESTART_SECONDS = 60.0

pytestmark = [
    pytest.mark.systemd,
    pytest.mark.skipif("MAXD_SYSTEMD" not in os.environ, reason="make test-systemd runs it"),
]


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    with Container(Path(os.environ["MAXD_SYSTEMD"]).absolute()) as container:
        container.run("useradd", "--create-home", ANN)
        container.run("loginctl", "enable-linger", ANN)
        container.run(
            "systemd-run", "--unit=loopback", f"{BIN}/python", "-m", "maxd.workers.loopback",
            "--port=9999",
        )  # fmt: skip
        container.write(
            f"/home/{ANN}/.config/maxd/environment",
            "ANTHROPIC_BASE_URL=http://127.0.0.1:9999\nANTHROPIC_API_KEY=loopback\n"
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1\n",
            ANN,
        )
        yield container


@pytest.fixture(params=["root", ANN])
def manager(container: Container, request: pytest.FixtureRequest) -> Iterator[str]:
    """Whose service manager runs maxd; whoever it is, maxd runs for ann."""
    user: str = request.param
    which = ["--system", f"--user={ANN}"] if user == "root" else []
    container.run("maxd", "service", *which, "install", user=user)
    container.wait(SERVICE, "ActiveState", "active", RESTART_SECONDS, user)
    yield user
    said = container.run("maxd", "service", *which, "uninstall", user=user)
    assert said.count("removed ") == 2
    assert container.show(SERVICE, "LoadState", user) == "not-found"
    assert container.try_run("curl", "--silent", URL).returncode == 7  # Connection refused.
    assert "_bundled/claude" not in container.run("ps", "-eo", "args")


def ask(container: Container, prompt: str, model: str = "sonnet:chat") -> str:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    told = container.run(
        "curl", "--silent", "--max-time", "60", f"{URL}/v1/chat/completions",
        "--header", "Content-Type: application/json", "--data", json.dumps(body),
    )  # fmt: skip
    answer: str = json.loads(told)["choices"][0]["message"]["content"]
    return answer


def test_it_is_active_when_a_spare_is_ready_and_an_agent_can_work(
    container: Container, manager: str
) -> None:
    assert "spares" in container.show(SERVICE, "StatusText", manager)
    # With tools: nothing that the unit forbids is in the way of a shell.
    told = ask(
        container,
        directive(
            replies=[
                {"tool": "Bash", "input": {"command": "id -un > ~/who && cat ~/who"}},
                {"text": "done"},
            ]
        ),
        "sonnet",
    )
    assert told == "done"
    assert container.run("cat", f"/home/{ANN}/who") == ANN


def test_a_daemon_that_hangs_is_replaced_by_the_watchdog(
    container: Container, manager: str
) -> None:
    ask(container, directive(text="before"))
    pid = container.show(SERVICE, "MainPID", manager)
    others = set(container.run("pgrep", "-f", "_bundled/claude").split())
    container.run("kill", "-STOP", pid)
    container.wait(SERVICE, "NRestarts", "1", RESTART_SECONDS, manager)
    container.wait(SERVICE, "ActiveState", "active", RESTART_SECONDS, manager)
    assert container.show(SERVICE, "MainPID", manager) != pid
    # Its workers did not outlive it.
    assert not others & set(container.run("pgrep", "-f", "_bundled/claude").split())
    assert ask(container, directive(text="after")) == "after"


def test_a_killed_daemon_is_replaced_and_its_workers_are_gone(
    container: Container, manager: str
) -> None:
    ask(container, directive(text="before"))
    others = set(container.run("pgrep", "-f", "_bundled/claude").split())
    container.run("kill", "-KILL", container.show(SERVICE, "MainPID", manager))
    container.wait(SERVICE, "NRestarts", "1", RESTART_SECONDS, manager)
    container.wait(SERVICE, "ActiveState", "active", RESTART_SECONDS, manager)
    assert not others & set(container.run("pgrep", "-f", "_bundled/claude").split())
    assert ask(container, directive(text="after")) == "after"


def test_a_mistake_in_the_configuration_is_told_and_not_tried_again(
    container: Container, manager: str
) -> None:
    config = f"/home/{ANN}/.config/maxd/config.toml"
    container.write(config, "[pool]\nmax_workers = 'many'\n", ANN)
    try:
        # At a reload the running one keeps what it has.
        pid = container.show(SERVICE, "MainPID", manager)
        container.systemctl("reload", SERVICE, user=manager)
        assert ask(container, directive(text="still here")) == "still here"
        assert container.show(SERVICE, "MainPID", manager) == pid
        container.systemctl("stop", SERVICE, user=manager)
        container.try_run(*container_restart(manager), user=manager)
        container.wait(SERVICE, "ActiveState", "failed", RESTART_SECONDS, manager)
        assert container.show(SERVICE, "ExecMainStatus", manager) == "78"
        assert container.show(SERVICE, "NRestarts", manager) == "0"
    finally:
        container.run("rm", config)
        container.systemctl("reset-failed", user=manager)
    container.systemctl("restart", "maxd.socket", SERVICE, user=manager)
    assert ask(container, directive(text="mended")) == "mended"


def container_restart(manager: str) -> list[str]:
    return ["systemctl", *([] if manager == "root" else ["--user"]), "start", SERVICE]


def test_restarts_under_load_refuse_no_connection_and_lose_no_answer(
    container: Container, manager: str
) -> None:
    outcomes: Counter[str] = Counter()
    load = subprocess.Popen(
        container.command(f"{BIN}/python", f"{TESTS}/load.py", str(CLIENTS)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert load.stdout is not None
    started = time.monotonic()
    for _ in range(RESTARTS):
        for _ in range(2 * CLIENTS):
            outcomes[load.stdout.readline().strip()] += 1
        # The unit's start limit is for a daemon that fails.
        container.systemctl("reset-failed", SERVICE, user=manager)
        container.systemctl("restart", SERVICE, user=manager)
    rest, _ = load.communicate()
    outcomes.update(rest.split("\n")[:-1])
    took = time.monotonic() - started
    print(f"\n{RESTARTS} restarts by {manager} in {took:.0f} s: {dict(outcomes)}")
    assert set(outcomes) == {"whole"}
    assert outcomes["whole"] >= 2 * RESTARTS * CLIENTS
