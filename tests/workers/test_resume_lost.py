"""Sessions that cannot be resumed, with the fake CLI and with real ones."""

from collections.abc import AsyncIterator

import pytest
import trio

from maxd.workers.faults import SessionLost, WorkerStartFailed
from maxd.workers.sessions import check_resumable, read_ending, transcript_path, wait_written
from tests.workers.resumed import (
    Conversation,
    echo,
    launch,
    of_the_tool,
    projects,
    use_tool,
    worked,
)
from tests.workers.rig import FakeRig, Rig, start_worker

UNKNOWN = "0e984725-c51c-4bf4-9960-e1c80e27aba0"


@pytest.fixture(autouse=True)
async def _limit() -> AsyncIterator[None]:
    with trio.fail_after(90):
        yield


async def test_killed_at_once_it_has_lost_the_turn_or_can_be_resumed(rig: Rig) -> None:
    """2.1.330 has written the turn before it tells its end, 2.1.197 up to 0.1 s later."""
    talk = Conversation(rig)
    use_tool(rig)
    async with talk.worker() as life:
        await talk.ask(life, "question")
        await talk.kill(life)
    echo(rig)
    assert talk.record.last_line is not None
    try:
        await check_resumable(await talk.transcript(), talk.record.last_line)
    except SessionLost:
        return
    async with talk.worker(resumed=True) as life:
        await talk.ask(life, "and now?")
    assert talk.seen == [*of_the_tool(talk), ("user", ["and now?"])]


async def test_a_fake_that_writes_late_loses_what_is_killed_at_once(fake: FakeRig) -> None:
    fake.knob("WRITES", "late=60")
    talk = Conversation(fake)
    async with talk.worker() as life:
        await talk.ask(life, "question")
        path, line = await talk.transcript(), talk.record.last_line
        assert line is not None
        assert not await wait_written(path, line, trio.current_time() + 0.1)
        await talk.kill(life)
    assert read_ending(path) is None
    with pytest.raises(SessionLost):
        async with talk.worker(resumed=True):
            pass


async def test_an_unknown_session_is_lost(rig: Rig) -> None:
    async with trio.open_nursery() as nursery:
        life = await start_worker(nursery, launch(rig, UNKNOWN))
        ended = await life.wait_ended()
    assert type(ended.fault) is SessionLost
    assert isinstance(ended.fault, WorkerStartFailed)
    assert not ended.stuck


async def test_a_deleted_or_emptied_transcript_is_lost(rig: Rig) -> None:
    talk = await worked(rig)
    path, line = await talk.transcript(), talk.record.last_line
    assert line is not None
    for harm in ("empty", "garbage", "deleted", "a directory"):
        match harm:
            case "empty":
                path.write_bytes(b"")
            case "garbage":
                path.write_bytes(b"\x00\xff{]\n" * 100)
            case "deleted":
                path.unlink()
            case _:
                path.mkdir()
        with pytest.raises(SessionLost):
            await check_resumable(path, line)
        with pytest.raises(SessionLost):
            async with talk.worker(resumed=True):
                pass


async def test_a_transcript_without_its_end_is_lost_though_the_cli_would_take_it(
    rig: Rig,
) -> None:
    """The CLI says nothing of what is missing: only a look at the file tells."""
    talk = await worked(rig)
    path, line = await talk.transcript(), talk.record.last_line
    assert line is not None
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    last = next(at for at, each in enumerate(lines) if line.encode() in each)
    before = b"".join(lines[:last])
    for cut in (before, before + lines[last][:-1], before + lines[last][:100], whole[:-1]):
        path.write_bytes(cut)
        with pytest.raises(SessionLost):
            await check_resumable(path, line)
    path.write_bytes(before)
    async with talk.worker(resumed=True) as life:
        await talk.ask(life, "and now?")
    assert talk.messages[1][1] not in [block for _, said in talk.seen for block in said]
    assert ("assistant", ["No response requested."]) in talk.seen


async def test_a_session_of_another_directory_is_lost(rig: Rig) -> None:
    """2.1.330 would find it there, 2.1.197 does not."""
    talk = await worked(rig)
    other = rig.home / "other"
    other.mkdir()
    assert talk.record.session is not None
    assert talk.record.last_line is not None
    path = transcript_path(await projects(rig), str(other), talk.record.session)
    with pytest.raises(SessionLost):
        await check_resumable(path, talk.record.last_line)
