"""The fake CLI, spoken to by hand: what the tests of workers rely on."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from maxd.workers.profiles import BUILT_IN, command_line

FAKE = Path(__file__).with_name("fake_cli.py")
RUN = [sys.executable, "-I", "-S", str(FAKE)]
WORKER = [*RUN, *command_line("", BUILT_IN["chat"], "claude-x")[1:]]


def run(argv: list[str], stdin: str = "", **knobs: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": "/nowhere"}
    env |= {f"FAKE_CLI_{name.upper()}": value for name, value in knobs.items()}
    return subprocess.run(argv, input=stdin, env=env, capture_output=True, text=True, timeout=60)


def talk(*lines: dict[str, Any], **knobs: str) -> list[dict[str, Any]]:
    """Everything it says to `lines` that are there all at once; it must end well."""
    done = run(WORKER, "".join(json.dumps(line) + "\n" for line in lines), **knobs)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def user(*texts: str, **more: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": text} for text in texts]
    return {"type": "user", "message": {"role": "user", "content": content}, **more}


def remembered(text: str) -> dict[str, Any]:
    return user(text, shouldQuery=False)


def said(text: str) -> dict[str, Any]:
    content = [{"type": "text", "text": text}]
    return {"type": "assistant", "message": {"role": "assistant", "content": content}}


def ask(subtype: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "control_request",
        "request_id": subtype,
        "request": {"subtype": subtype, **more},
    }


def results(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message for message in messages if message["type"] == "result"]


def echo(messages: list[dict[str, Any]]) -> Any:
    return json.loads(results(messages)[-1]["result"])


def test_its_version() -> None:
    assert run([*RUN, "--version"]).stdout == "2.1.330 (Claude Code)\n"
    assert run([*RUN, "--version"], version="2.1.197").stdout == "2.1.197 (Claude Code)\n"


@pytest.mark.parametrize("state", ["logged_in", "logged_out"])
def test_its_login(state: str) -> None:
    done = run([*RUN, "auth", "status", "--json"], auth=state)
    assert json.loads(done.stdout)["loggedIn"] == (state == "logged_in")
    assert done.returncode == (0 if state == "logged_in" else 1)


def test_a_login_that_is_garbage() -> None:
    with pytest.raises(json.JSONDecodeError):
        json.loads(run([*RUN, "auth", "status", "--json"], auth="garbage").stdout)


@pytest.mark.parametrize("name", BUILT_IN)
def test_it_takes_the_command_line_of_every_profile(name: str) -> None:
    assert run([*RUN, *command_line("", BUILT_IN[name], "claude-x")[1:]]).returncode == 0


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--nosuch", "error: unknown option '--nosuch'\n"),
        ("--permission-mode=nosuch", "argument 'nosuch' is invalid. Allowed choices are"),
        ("--output-format=json", "requires output-format=stream-json"),
        ("--model", "argument missing"),
    ],
)
def test_it_refuses_other_options(option: str, words: str) -> None:
    done = run([*WORKER, option])
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr


@pytest.mark.parametrize("line", ["no json", "{", '{"type": "nosuch"}'])
def test_a_bad_line_ends_it(line: str) -> None:
    done = run(WORKER, line + "\n")
    assert done.returncode == 1
    assert done.stderr.startswith("Error")


def test_it_answers_control_requests() -> None:
    answers = talk(ask("get_binary_version"), ask("list_models"), ask("nosuch"))
    version, models, refusal = (answer["response"] for answer in answers)
    assert version["response"]["version"] == "2.1.330"
    assert models["response"]["models"]
    assert (refusal["subtype"], refusal["request_id"]) == ("error", "nosuch")


def test_the_older_one_knows_no_list_of_models() -> None:
    [answer] = talk(ask("list_models"), version="2.1.197")
    assert answer["response"]["subtype"] == "error"


def test_it_is_bound_once() -> None:
    first, second = ask("initialize", systemPrompt=["a", "b"]), ask("initialize", systemPrompt=[])
    assert echo(talk(first, second, user("hi")))["system"] == "a\n\nb"
    appended = ask("initialize", appendSystemPrompt="more")
    assert echo(talk(appended, user("hi")))["system"].endswith("itself)\n\nmore")


def test_history_that_is_not_waited_for_runs_together() -> None:
    """As seen with 2.1.330."""
    messages = talk(remembered("a"), said("b"), remembered("c"), said("d"), user("e"))
    assert [result["num_turns"] for result in results(messages)] == [0, 0, 1]
    assert echo(messages)["messages"] == [
        ["assistant", ["b"]],
        ["assistant", ["d"]],
        ["user", ["a\n", "c\n", "e"]],
    ]


def test_blank_messages_never_arrive() -> None:
    messages = talk(said(""), said(" \n"), said("x"), user("hi"))
    assert echo(messages)["messages"] == [["assistant", ["x"]], ["user", ["hi"]]]


def test_commands_are_swallowed() -> None:
    [result] = results(talk(user("/help me")))
    assert (result["num_turns"], result["is_error"]) == (0, False)
    assert echo(talk(user("/help me", "")))["messages"] == [["user", ["/help me"]]]
    assert echo(talk(user("/nosuch x")))["messages"] == [["user", ["/nosuch x"]]]


def test_a_turn_has_the_events_of_the_api() -> None:
    messages = talk(user("hi"), tokens="2")
    kinds = [m["event"]["type"] if m["type"] == "stream_event" else m["type"] for m in messages]
    assert kinds == [
        *("system", "system", "message_start", "content_block_start"),
        *("content_block_delta", "content_block_delta", "assistant", "content_block_stop"),
        *("message_delta", "message_stop", "result"),
    ]


@pytest.mark.parametrize("status", ["400", "401", "403", "404", "413", "429", "500", "529"])
def test_upstream_errors(status: str) -> None:
    *_, synthetic, result = talk(user("hi"), answer=status)
    assert synthetic["message"]["model"] == "<synthetic>"
    assert (result["is_error"], result["api_error_status"]) == (True, int(status))


@pytest.mark.parametrize(
    ("answer", "is_error"),
    [
        *((kind, True) for kind in ("limit", "unreachable", "logged_out", "too_long", "gave_up")),
        *((kind, True) for kind in ("lost=1", "refusal", "max_tokens")),
        *((kind, False) for kind in ("ok", "warning", "retry=529", "cut=1", "open", "unstreamed")),
        ("empty", False),
    ],
)
@pytest.mark.parametrize("version", ["2.1.330", "2.1.197"])
def test_every_other_end(answer: str, is_error: bool, version: str) -> None:
    [result] = results(talk(user("hi"), answer=answer, version=version))
    assert (result["is_error"], result["api_error_status"]) == (
        is_error,
        429 if answer == "limit" else None,
    )


def test_a_turn_has_its_own_knobs() -> None:
    messages = talk(user("<<fake tokens=2 answer=warning>> hi"), user("again"))
    first, _ = results(messages)
    assert first["result"] == "word1 word2 "
    assert echo(messages)["messages"][-1] == ["user", ["again"]]


def test_it_asks_for_permission_and_reports_the_answer() -> None:
    with dialogue(answer="tool=Bash", command="true") as process:
        say(process, user("hi"))
        question = hear(process, "control_request")
        assert question["request"]["input"] == {"command": "true"}
        answer = {"behavior": "deny", "message": "no"}
        reply = {"subtype": "success", "request_id": question["request_id"], "response": answer}
        say(process, {"type": "control_response", "response": reply})
        assert hear(process, "result")["result"] == "denied: no"


def test_it_can_be_interrupted() -> None:
    with dialogue(tokens="1000", delay="0.05") as process:
        say(process, user("hi"))
        hear(process, "stream_event")
        say(process, ask("interrupt"))
        hear(process, "control_response")
        assert hear(process, "result")["terminal_reason"] == "aborted_streaming"


def test_what_it_is_told_to_do_at_its_steps() -> None:
    done = run(WORKER, json.dumps(user("hi")) + "\n", at="ask:tell=words token=1:exit=7")
    assert (done.returncode, done.stderr) == (7, "words\n")
    assert "message_stop" not in done.stdout


def dialogue(**knobs: str) -> subprocess.Popen[str]:
    env = {"PATH": os.environ["PATH"]}
    env |= {f"FAKE_CLI_{name.upper()}": value for name, value in knobs.items()}
    argv = [*RUN, *command_line("", BUILT_IN["agent"], "claude-x")[1:]]
    pipe = subprocess.PIPE
    # Leaving it closes stdin, which ends the fake.
    return subprocess.Popen(argv, env=env, stdin=pipe, stdout=pipe, text=True, bufsize=1)


def say(process: subprocess.Popen[str], message: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(message) + "\n")


def hear(process: subprocess.Popen[str], kind: str) -> dict[str, Any]:
    """The next message of that type."""
    assert process.stdout is not None
    for line in process.stdout:
        message: dict[str, Any] = json.loads(line)
        if message["type"] == kind:
            return message
    raise AssertionError(f"no {kind} came")
