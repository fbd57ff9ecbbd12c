"""Transcripts on disk: their names, what their ends say, and the wait for them."""

import json
import os
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from maxd.workers.cli import Login, parse_auth_status
from maxd.workers.faults import SessionLost
from maxd.workers.profiles import AGENT, CHAT, command_line
from maxd.workers.sessions import (
    MOST_READ,
    Ending,
    check_resumable,
    directory_name,
    ending_of,
    projects_directory,
    read_ending,
    transcript_path,
    wait_written,
)

SESSION = "879e22bd-c72e-416d-b785-d306536fbc82"
TOLD = Login(state="logged_in", projects="/told/projects")
SILENT = Login(state="logged_in")


def line(kind: str, uuid: str = "", message: str | None = None, **fields: object) -> bytes:
    entry = {"type": kind, "uuid": uuid, "message": {"id": message, "content": "…"}, **fields}
    return json.dumps(entry, ensure_ascii=False).encode() + b"\n"


ASKED = line("user", "u1")
CALLED = line("assistant", "a1", "msg_1")
RESULT = line("user", "u2")
THOUGHT = line("assistant", "a2", "msg_2")
ANSWERED = line("assistant", "a3", "msg_2")
NOTE = b'{"type":"last-prompt","leafUuid":"x"}\n'
TURN = NOTE + ASKED + CALLED + RESULT + NOTE + THOUGHT + ANSWERED


def test_only_a_uuid_can_be_resumed_and_only_where_there_are_sessions() -> None:
    argv = command_line("claude", AGENT, "sonnet", SESSION)
    assert f"--resume={SESSION}" in argv
    assert "--no-session-persistence" not in argv
    assert not [word for word in command_line("claude", AGENT, "sonnet") if "resume" in word]
    assert "--no-session-persistence" in command_line("claude", CHAT, "sonnet")
    wrong = ["", "a title", "../x", SESSION + "\n", SESSION.upper(), f"{SESSION}.jsonl", "--help"]
    for session in wrong:
        with pytest.raises(ValueError, match="not a session"):
            command_line("claude", AGENT, "sonnet", session)
    with pytest.raises(ValueError, match="not a session"):
        command_line("claude", CHAT, "sonnet", SESSION)


@pytest.mark.parametrize(
    ("login", "environment", "expected"),
    [
        (TOLD, {"HOME": "/home/me", "CLAUDE_CONFIG_DIR": "/config"}, "/told/projects"),
        (SILENT, {"HOME": "/home/me", "CLAUDE_CONFIG_DIR": "/config"}, "/config/projects"),
        (SILENT, {"HOME": "/home/me", "CLAUDE_CONFIG_DIR": ""}, "/home/me/.claude/projects"),
        (SILENT, {"HOME": "/home/me"}, "/home/me/.claude/projects"),
        (Login(state="unknown", projects="not/absolute"), {"HOME": "/h"}, "/h/.claude/projects"),
    ],
)
def test_projects_are_where_the_cli_says(
    login: Login, environment: dict[str, str], expected: str
) -> None:
    assert projects_directory(login, environment) == Path(expected)


def test_the_cli_tells_where_its_projects_are() -> None:
    told = parse_auth_status(b'{"loggedIn":true,"projectsDirectory":"/told/projects"}')
    assert told == TOLD
    assert parse_auth_status(b'{"loggedIn":true,"projectsDirectory":7}') == SILENT


# Names that 2.1.197 and 2.1.330 have given, below the same or other parents.
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", "-"),
        ("/home/me/a.b_c d", "-home-me-a-b-c-d"),
        ("/x/a..b--c", "-x-a--b--c"),
        ("/x/-y%41", "-x--y-41"),
        ("/x/é", "-x--"),
        ("/x/e\u0301", "-x-e-"),
        ("/x/日本", "-x---"),
        # A character beyond the first 65,536 is two units.
        ("/x/😀y", "-x---y"),
        ("/" + "d" * 199, "-" + "d" * 199),
        ("/tmp/" + "d" * 196, "-tmp-" + "d" * 195 + "-rocr15"),
        ("/tmp/" + "😀" * 60 + "/" + "é" * 80, "-tmp" + "-" * 196 + "-yx8pbo"),
    ],
)
def test_a_directory_has_the_name_that_the_cli_gives_it(path: str, name: str) -> None:
    assert directory_name(path) == name


def test_links_lead_where_the_cli_is(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    projects = Path("/projects")
    path = transcript_path(projects, str(tmp_path / "link"), SESSION)
    assert path == transcript_path(projects, str(tmp_path / "real"), SESSION)
    assert path == projects / directory_name(os.path.realpath(tmp_path / "real")) / (
        f"{SESSION}.jsonl"
    )


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        (b"", Ending(None, None, False, False)),
        (NOTE, Ending(None, None, False, False)),
        (TURN, Ending("a3", "msg_2", False, False)),
        (TURN + NOTE * 3, Ending("a3", "msg_2", False, False)),
        (TURN + ASKED, Ending("a3", "msg_2", True, False)),
        (TURN + NOTE + ASKED + NOTE, Ending("a3", "msg_2", True, False)),
        (ASKED + CALLED, Ending("a1", "msg_1", False, False)),
        (ASKED + CALLED + RESULT, Ending("a1", "msg_1", True, False)),
        (ASKED, Ending(None, None, True, False)),
        # Cut in its last line, even if only the newline is missing.
        (TURN + b'{"type":"us', Ending("a3", "msg_2", False, True)),
        (TURN[:-1], Ending("a2", "msg_2", False, True)),
        # Cut at its beginning.
        (ASKED[20:] + CALLED, Ending("a1", "msg_1", False, False)),
        # Broken in the middle, which the CLI passes over too.
        (TURN + b'{"type":"user","mess\n', Ending("a3", "msg_2", False, False)),
        (
            TURN + b"\x00\xff\n[1]\n7\n\n" + b"[" * 10_000 + b"\n",
            Ending("a3", "msg_2", False, False),
        ),
        # Subagents, as older versions kept them.
        (
            TURN + line("user", "u9", isSidechain=True) + line("assistant", "a9", isSidechain=True),
            Ending("a3", "msg_2", False, False),
        ),
        (TURN.replace(b"\n", b"\r\n"), Ending("a3", "msg_2", False, False)),
    ],
)
def test_the_end_of_a_transcript(tail: bytes, expected: Ending) -> None:
    assert ending_of(tail) == expected


@given(st.integers(0, len(TURN)))
def test_wherever_it_is_cut_it_is_only_whole_with_its_last_line(length: int) -> None:
    assert ending_of(TURN[:length]).is_at("a3") is (length == len(TURN))
    assert ending_of((TURN + NOTE)[:length]).is_at("a3") is (length == len(TURN))


@given(st.integers(0, len(TURN) - len(ANSWERED)))
def test_where_it_begins_does_not_matter(start: int) -> None:
    assert ending_of(TURN[start:]) == ending_of(TURN)


@given(st.lists(st.sampled_from([ASKED, CALLED, NOTE, b"{", b"\n", b"\xff", b'"']), max_size=9))
def test_any_bytes_have_an_ending(pieces: list[bytes]) -> None:
    ending_of(b"".join(pieces))


@pytest.mark.parametrize("after", [0, 20_000, 200_000, MOST_READ - 1000])
def test_it_is_found_however_much_follows(tmp_path: Path, after: int) -> None:
    path = tmp_path / "x.jsonl"
    rest = after // len(NOTE) * NOTE
    path.write_bytes(TURN * 100 + rest)
    assert read_ending(path) == Ending("a3", "msg_2", False, False)


def test_it_is_not_looked_for_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(TURN + NOTE * (MOST_READ // len(NOTE) + 1))
    assert read_ending(path) == Ending(None, None, False, False)


def test_a_long_answer_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(TURN + line("assistant", "a4", "msg_3", text="word " * 150_000))
    assert read_ending(path) == Ending("a4", "msg_3", False, False)


def test_what_cannot_be_read_has_no_ending(tmp_path: Path) -> None:
    assert read_ending(tmp_path / "none.jsonl") is None
    assert read_ending(tmp_path) is None


async def test_the_wait_ends_with_the_last_line(tmp_path: Path) -> None:
    path = tmp_path / "later" / "x.jsonl"
    answered: bool | None = None

    async def wait() -> None:
        nonlocal answered
        answered = await wait_written(path, "a3", trio.current_time() + 20)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        path.parent.mkdir()
        with path.open("wb", buffering=0) as file:
            for piece in (TURN[:100], TURN[100:-5], TURN[-5:-1], TURN[-1:]):
                await trio.testing.wait_all_tasks_blocked()
                assert answered is None
                file.write(piece)
    assert answered is True


@pytest.mark.parametrize("content", [None, b"", TURN[:-1], TURN + ASKED, NOTE])
async def test_the_wait_ends_at_its_deadline(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.jsonl"
    if content is not None:
        path.write_bytes(content)
    assert not await wait_written(path, "a3", trio.current_time() + 0.05)


async def test_a_whole_transcript_can_be_resumed(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(TURN + NOTE)
    await check_resumable(path, "a3")
    for other in ("a2", "u2", "msg_2", ""):
        with pytest.raises(SessionLost):
            await check_resumable(path, other)


@pytest.mark.parametrize("content", [None, b"", TURN[:-1], TURN + ASKED, TURN + CALLED])
async def test_any_other_is_lost(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SessionLost) as lost:
        await check_resumable(path, "a3")
    assert str(path) not in lost.value.message
