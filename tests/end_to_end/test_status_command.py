"""`maxd status` against a daemon, none, and what is none."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from maxd.daemon.settings import Config, Server
from maxd.daemon.status_command import KEY_VARIABLE, Unreachable, ask, base_url, decode
from tests.end_to_end.running import DaemonProcess, LoopbackProcess

FAKE_CLI = str(Path(__file__).parents[1] / "fakes" / "fake_cli.py")
COMMAND = [sys.executable, "-m", "maxd.daemon", "status"]


@pytest.fixture(scope="module")
def daemon(
    _model: LoopbackProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DaemonProcess]:
    variables = {"CLAUDE_CLI": FAKE_CLI, "MAXD_POOL_WARM": "sonnet:chat"}
    root = tmp_path_factory.mktemp("asked")
    with DaemonProcess(root, _model.base_url, variables) as daemon:
        daemon.wait_serving().wait_log("worker ready")
        yield daemon
        assert daemon.stop() == 0


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "COLUMNS": "150"}
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_table(daemon: DaemonProcess) -> None:
    done = run("--url", daemon.base_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "serving" in done.stdout
    assert FAKE_CLI in done.stdout
    assert "sonnet:chat" in done.stdout
    assert "\x1b" not in done.stdout, "no colours in a pipe"


def test_the_daemon_is_found_by_its_settings(daemon: DaemonProcess, tmp_path: Path) -> None:
    port = daemon.base_url.rpartition(":")[2]
    done = run("--json", MAXD_SERVER_PORT=port)
    assert done.returncode == 0
    assert json.loads(done.stdout)["pid"] == daemon.process.pid
    file = tmp_path / "config.toml"
    file.write_text(f"[server]\nport = {port}\n")
    assert run("--json", "--config", str(file)).returncode == 0


def test_a_line_for_each_look(daemon: DaemonProcess) -> None:
    watching = subprocess.Popen(
        [*COMMAND, "--watch", "--json", "--url", daemon.base_url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A job in the background has it ignored, and so has all that is started there.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert watching.stdout is not None
    for _ in range(2):
        assert json.loads(watching.stdout.readline())["state"] == "serving"
    watching.send_signal(signal.SIGINT)
    rest = watching.communicate(timeout=30)
    assert rest[1] == ""
    assert watching.returncode == 0


def test_a_daemon_that_is_not_ready(tmp_path: Path, model: LoopbackProcess) -> None:
    variables = {"MAXD_CLI_PATH": "/nonexistent/claude"}
    with DaemonProcess(tmp_path, model.base_url, variables) as daemon:
        daemon.wait_serving()
        done = run("--url", daemon.base_url)
        assert done.returncode == 1
        assert "unavailable" in done.stdout
        assert "/nonexistent/claude" in done.stdout
        assert run("--json", "--url", daemon.base_url).returncode == 1
        assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1", "no maxd answers"),
        ("file:///etc/passwd", "is no http:// address"),
        ("http://127.0.0.1:99999", "is no http:// address"),
        ("http://[::1", "is no http:// address"),
        ("nonsense", "is no http:// address"),
    ],
)
def test_nothing_is_there(url: str, words: str) -> None:
    with pytest.raises(Unreachable, match=words):
        ask(url, None)


def test_nothing_is_there_ends_with_1() -> None:
    done = run("--url", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("maxd: no maxd answers")


def test_bad_settings_end_with_78() -> None:
    assert run(MAXD_SERVER_PORT="x").returncode == 78


class _Answers(BaseHTTPRequestHandler):
    """Wants a key, and is no maxd."""

    def do_GET(self) -> None:
        right = self.headers.get("Authorization") == "Bearer right"
        self.send_response(200 if right else 401)
        self.end_headers()
        self.wfile.write(b'{"version": 7}')

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def stranger() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_key_is_asked_for_and_sent() -> None:
    with stranger() as url:
        done = run("--url", url)
        assert done.returncode == 1
        assert KEY_VARIABLE in done.stderr
        done = run("--url", url, **{KEY_VARIABLE: "right"})
        assert done.returncode == 1
        assert "does not answer as this version of maxd" in done.stderr


def test_what_is_no_status_is_said_to_be_none() -> None:
    for body in (b"", b"[]", b"\xff", b"[" * 100_000):
        with pytest.raises(Unreachable, match="this version"):
            decode("http://x", body)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:3456"),
        ("0.0.0.0", "http://127.0.0.1:3456"),
        ("::1", "http://[::1]:3456"),
        ("::", "http://[::1]:3456"),
        ("localhost", "http://localhost:3456"),
    ],
)
def test_where_a_client_on_this_machine_finds_it(host: str, url: str) -> None:
    assert base_url(Config(server=Server(host=host))) == url
