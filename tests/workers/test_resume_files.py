"""What a session leaves on disk and where, with the fake CLI and with real ones."""

from collections.abc import AsyncIterator

import pytest
import trio

from maxd.workers.profiles import AGENT, CHAT
from tests.workers.resumed import Conversation, launch
from tests.workers.rig import FakeRig, Rig, start_worker, turn


@pytest.fixture(autouse=True)
async def _limit() -> AsyncIterator[None]:
    with trio.fail_after(90):
        yield


@pytest.mark.parametrize("name", ["a.b_c d", "é😀", "x" * 150 + "/" + "y" * 150])
async def test_the_transcript_is_where_it_is_expected(rig: Rig, name: str) -> None:
    if isinstance(rig, FakeRig) and len(name) != 7:
        pytest.skip("the fake names directories in the simple way")
    place = rig.home / name
    place.mkdir(parents=True)
    link = rig.home / "link"
    link.symlink_to(place)
    rig.home = link
    talk = Conversation(rig)
    async with talk.worker() as life:
        await talk.ask(life, "question")
    assert (await talk.transcript()).exists()


async def test_a_configured_directory_of_the_cli_is_followed(rig: Rig) -> None:
    rig.environment["CLAUDE_CONFIG_DIR"] = str(rig.home / "configured")
    talk = Conversation(rig)
    async with talk.worker() as life:
        await talk.ask(life, "question")
    path = await talk.transcript()
    assert path.is_relative_to(rig.home / "configured")
    assert path.exists()


async def test_what_has_no_tools_or_no_turn_leaves_nothing(rig: Rig) -> None:
    async with trio.open_nursery() as nursery:
        for profile in (AGENT, CHAT):
            life = await start_worker(nursery, launch(rig, profile=profile))
            if profile is CHAT:
                async with life.assign(turn(("user", "hello"))) as inbox:
                    assert [piece async for piece in inbox]
                assert (life.worker.record.session, life.worker.record.last_line) == (None, None)
                assert life.worker.record.context_window == 200_000
            life.worker.kill_nowait()
            await life.wait_ended()
    assert list(rig.home.rglob("*.jsonl")) == []


async def test_what_a_turn_cost_is_told_for_each_by_itself(rig: Rig) -> None:
    rig.say("answer", usage=(900, 200, 300, 500))
    talk = Conversation(rig)
    costs = []
    async with talk.worker() as life:
        for question in ("one", "two"):
            await talk.ask(life, question)
            costs.append(talk.record.cost)
            assert talk.record.context_tokens == 1900
            assert talk.record.context_window == 200_000
    # It ended in order, so that 2.1.330 has left its count in the transcript.
    async with talk.worker(resumed=True) as life:
        for question in ("three", "four"):
            await talk.ask(life, question)
            costs.append(talk.record.cost)
    assert costs[0] > 0
    assert costs == pytest.approx([costs[0]] * 4)
