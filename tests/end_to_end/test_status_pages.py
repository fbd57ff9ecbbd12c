"""The operator's pages of a real daemon, with a stand-in for the CLI that can be made to hang."""

import json
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from maxd.http.status_pages import MOST_VIEWERS, PAGES
from tests.end_to_end.running import DaemonProcess, LoopbackProcess

FAKE_CLI = str(Path(__file__).parents[1] / "fakes" / "fake_cli.py")
CANARY = "canary-4711"
ROUTES = ["/status", "/ready", "/metrics", "/health", "/status/stream", *PAGES]
FAKE = {
    "CLAUDE_CLI": FAKE_CLI,
    "MAXD_POOL_WARM": "sonnet:chat",
    "MAXD_POOL_MAX_WORKERS": "2",
    "MAXD_SERVER_DRAIN_SECONDS": "5",
}


@pytest.fixture(scope="module")
def daemon(
    _model: LoopbackProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DaemonProcess]:
    """One for the tests that leave it as it was."""
    with DaemonProcess(tmp_path_factory.mktemp("status"), _model.base_url, FAKE) as daemon:
        daemon.wait_serving().wait_log("worker ready")
        yield daemon
        assert daemon.stop() == 0


@pytest.fixture
def own_daemon(tmp_path: Path, model: LoopbackProcess) -> Iterator[DaemonProcess]:
    with DaemonProcess(tmp_path, model.base_url, FAKE) as daemon:
        daemon.wait_serving().wait_log("worker ready")
        yield daemon


def get(daemon: DaemonProcess, path: str, **headers: str) -> httpx.Response:
    return httpx.get(f"{daemon.base_url}{path}", headers=headers, timeout=20)


def status(daemon: DaemonProcess) -> Any:
    answer = get(daemon, "/status")
    assert answer.status_code == 200
    return answer.json()


def ask(daemon: DaemonProcess, text: str, *, stream: bool = False) -> httpx.Response:
    body = {
        "model": "sonnet:chat",
        "stream": stream,
        "messages": [{"role": "user", "content": text}],
    }
    return httpx.post(f"{daemon.base_url}/v1/chat/completions", json=body, timeout=20)


@contextmanager
def hanging(daemon: DaemonProcess, *texts: str) -> Iterator[list[dict[str, Any]]]:
    """A turn for each text, under way until its client goes away at the end of the block; what the
    log said of each."""
    port = int(daemon.base_url.rpartition(":")[2])
    with ExitStack() as clients:
        admitted = []
        for text in texts:
            message = {"role": "user", "content": text}
            body = json.dumps({"model": "sonnet:chat", "stream": True, "messages": [message]})
            client = clients.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\n"
                + f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            admitted.append(daemon.wait_log("turn admitted"))
        yield admitted


def until(daemon: DaemonProcess, wanted: Any) -> Any:
    """The first status that is as wanted, in a stream that was let in."""
    for _ in range(1000):
        with httpx.stream("GET", f"{daemon.base_url}/status/stream", timeout=20) as stream:
            if stream.status_code == 503:
                # The server has yet to see that others have gone.
                continue
            for line in stream.iter_lines():
                if line.startswith("data: ") and wanted(found := json.loads(line[6:])):
                    return found
    raise AssertionError("no stream had it")


# What is shown


@pytest.mark.parametrize("prefix", ["", "/v1"])
@pytest.mark.parametrize("path", ["/status", "/ready", "/metrics", "/health"])
def test_the_pages_are_there_with_and_without_the_version(
    daemon: DaemonProcess, prefix: str, path: str
) -> None:
    assert get(daemon, prefix + path).status_code == 200


def test_a_worker_in_the_middle_of_its_turn(own_daemon: DaemonProcess) -> None:
    with hanging(own_daemon, f"{CANARY} <<fake at=message_start:hang>>") as [admitted]:
        shown = until(
            own_daemon,
            lambda s: any(w["state"] == "leased" and w["memory"] for w in s["workers"]),
        )
        [worker] = [w for w in shown["workers"] if w["state"] == "leased"]
        assert worker["pid"] in {process.pid for process in own_daemon.tree()}
        assert worker["request"] == admitted["request"]
        assert worker["conversation"].startswith("conv_")
        assert worker["turn_age"] >= 0
        assert (worker["profile"], worker["model"], worker["turns"]) == ("chat", "sonnet", 0)
        assert shown["state"] == "serving"
        assert shown["pool"]["leased"] == 1
        assert shown["running"] == 1
        assert shown["pool"]["limit"] == 2
        assert shown["cli"]["path"] == FAKE_CLI
        assert shown["cli"]["version"] == "2.1.330"
        assert shown["cli"]["login"] == "logged_in"
        assert shown["config"]["pool.max_workers"] == 2
        assert shown["limits"] is None
        assert shown["pid"] == own_daemon.process.pid
        pages = [get(own_daemon, path).text for path in ("/status", "/metrics")]
    assert own_daemon.stop() == 0
    seen = "\n".join([*pages, json.dumps(own_daemon.log)])
    assert CANARY not in seen


def test_the_pages_answer_while_every_worker_hangs_and_the_queue_is_shown(
    own_daemon: DaemonProcess,
) -> None:
    hang = "<<fake at=message_start:hang>>"
    with hanging(own_daemon, f"1 {hang}", f"2 {hang}", f"3 {hang}"):
        shown = until(own_daemon, lambda s: s["pool"]["leased"] == 2)
        assert shown["pool"]["queued"] == 1
        assert shown["pool"]["queue_age"] >= 0
        assert shown["pool"]["most"]["turns"] == 3
        for path in ("/health", "/status", "/ready", "/metrics", "/"):
            assert get(own_daemon, path).status_code == 200
    assert own_daemon.stop() == 0


def test_errors_are_told_with_their_reasons(own_daemon: DaemonProcess) -> None:
    failed = ask(own_daemon, "<<fake answer=529>>")
    assert failed.status_code == 503
    shown = status(own_daemon)
    [error] = [each for each in shown["errors"] if each["what"] == "turn"]
    assert error["code"] == failed.json()["error"]["code"]
    assert error["reason"] == failed.json()["error"]["message"]
    assert error["request"] == failed.headers["x-request-id"]
    assert shown["totals"]["failed"] == 1
    assert own_daemon.stop() == 0


# Server-Timing and the log


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_says_where_its_time_went(daemon: DaemonProcess, stream: bool) -> None:
    answer = ask(daemon, "hello", stream=stream)
    durations = re.findall(r"(\w+);dur=[0-9.]+", answer.headers["server-timing"])
    assert durations[:2] == ["queue", "spawn"]
    if not stream:
        assert durations[2:] == ["first_token", "total"]
    entry = daemon.wait_log("turn", request=answer.headers["x-request-id"])
    assert entry["dialect"] == "chat"
    assert entry["key"] is None
    assert min(entry["queued"], entry["spawn"], entry["first_text"], entry["total"]) >= 0


def test_a_turn_that_fails_says_it_too(daemon: DaemonProcess) -> None:
    answer = ask(daemon, "<<fake answer=529>>")
    assert "total;dur=" in answer.headers["server-timing"]


def test_a_request_that_never_becomes_a_turn_has_its_line_too(daemon: DaemonProcess) -> None:
    before = status(daemon)["totals"]["refused"]
    answer = httpx.post(f"{daemon.base_url}/v1/chat/completions", json={"model": CANARY})
    assert answer.status_code in (400, 404)
    entry = daemon.wait_log("request refused", request=answer.headers["x-request-id"])
    assert (entry["route"], entry["status"]) == ("/chat/completions", answer.status_code)
    assert CANARY not in json.dumps(entry)
    assert status(daemon)["totals"]["refused"] == before + 1


# Metrics


def test_metrics_are_those_of_prometheus(daemon: DaemonProcess) -> None:
    ask(daemon, "hello")
    get(daemon, f"/{CANARY}/{CANARY}")
    answer = get(daemon, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert {
        "maxd_turns",
        "maxd_turn_seconds",
        "maxd_first_token_seconds",
        "maxd_queue_length",
        "maxd_worker_spawns",
        "maxd_tokens",
        "maxd_cost_usd",
        "maxd_workers",
    } <= set(families)
    routes = {sample.labels["route"] for sample in families["maxd_http_requests"].samples}
    assert {"/chat/completions", "other"} <= routes
    assert CANARY not in answer.text


# Ready or not


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"MAXD_CLI_PATH": "/nonexistent/claude"}, "/nonexistent/claude"),
        ({"CLAUDE_CLI": FAKE_CLI, "FAKE_CLI_AUTH": "logged_out"}, "not logged in"),
    ],
)
def test_a_daemon_without_a_working_cli_is_alive_and_not_ready(
    tmp_path: Path, model: LoopbackProcess, variables: dict[str, str], words: str
) -> None:
    with DaemonProcess(tmp_path, model.base_url, variables) as daemon:
        daemon.wait_serving()
        ready = get(daemon, "/ready")
        assert ready.status_code == 503
        assert ready.headers["retry-after"]
        assert words in ready.json()["error"]["message"]
        assert get(daemon, "/health").status_code == 200
        shown = status(daemon)
        assert shown["state"] == "unavailable"
        assert words in shown["problem"]
        assert words in shown["cli"]["problem"]
        assert words in shown["errors"][0]["reason"]
        assert "maxd_ready 0.0" in get(daemon, "/metrics").text
        assert daemon.stop() == 0


def test_a_daemon_that_drains_is_not_ready_and_shows_it(own_daemon: DaemonProcess) -> None:
    with hanging(own_daemon, "<<fake tokens=1000 delay=0.05>>"):
        until(own_daemon, lambda s: s["pool"]["leased"] == 1)
        own_daemon.process.send_signal(signal.SIGTERM)
        shown = until(own_daemon, lambda s: s["state"] != "serving")
        assert shown["state"] == "stopping"
        assert "stopping" in shown["problem"]
        assert get(own_daemon, "/ready").status_code == 503
        assert get(own_daemon, "/health").status_code == 200
    assert own_daemon.wait() == 0


# The stream


def test_a_stream_ends_with_the_daemon_and_holds_nothing_up(own_daemon: DaemonProcess) -> None:
    with httpx.stream("GET", f"{own_daemon.base_url}/status/stream", timeout=20) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        assert next(lines).startswith("data: {")
        own_daemon.process.send_signal(signal.SIGTERM)
        assert "event: stopped" in list(lines)
    assert own_daemon.wait() == 0
    assert not [entry for entry in own_daemon.log if entry["event"] == "incident"]


def test_windows_that_were_forgotten_do_not_use_up_the_connections(daemon: DaemonProcess) -> None:
    url = f"{daemon.base_url}/status/stream"
    with httpx.Client(limits=httpx.Limits(max_connections=100), timeout=20) as client:
        streams = [client.send(client.build_request("GET", url), stream=True) for _ in range(40)]
        for stream in streams:
            if stream.status_code == 200:
                next(stream.iter_lines())
        statuses = [stream.status_code for stream in streams]
        for stream in streams:
            stream.close()
    assert statuses.count(200) <= MOST_VIEWERS
    assert set(statuses) == {200, 503}
    until(daemon, lambda s: True)


# Who may look


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_other_sites_see_nothing(daemon: DaemonProcess, path: str, headers: dict[str, str]) -> None:
    answer = get(daemon, path, **headers)
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_the_pages_are_for_reading_only(daemon: DaemonProcess, path: str, method: str) -> None:
    answer = httpx.request(method, f"{daemon.base_url}{path}", timeout=20)
    assert answer.status_code in (405, 415)


@pytest.mark.parametrize("path", PAGES)
def test_the_dashboard_is_closed_to_all_but_itself(daemon: DaemonProcess, path: str) -> None:
    answer = get(daemon, path, **{"sec-fetch-site": "none", "sec-fetch-mode": "navigate"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == PAGES[path][1]
    rules = dict(
        rule.strip().split(" ", 1) for rule in answer.headers["content-security-policy"].split(";")
    )
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert rules["frame-ancestors"] == "'none'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_dashboard_needs_nothing_from_elsewhere(daemon: DaemonProcess) -> None:
    page = get(daemon, "/").text
    assert {f"/{found}" for found in re.findall(r'(?:src|href)="([^"]+)"', page)} == set(PAGES) - {
        "/"
    }
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", page)
    for path in PAGES:
        text = get(daemon, path).text.replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|url\(|@import", text)
    script = get(daemon, "/dashboard.js").text
    for unsafe in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("):
        assert unsafe not in script
