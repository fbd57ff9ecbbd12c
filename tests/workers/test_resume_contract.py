"""Going on with a conversation from the CLI's own session, with the fake CLI and with real ones."""

from collections.abc import AsyncIterator

import pytest
import trio

from maxd.workers.sessions import check_resumable
from maxd.workers.turn import Image, Text
from tests.workers.resumed import Conversation, echo, of_the_tool, use_tool, worked
from tests.workers.rig import RealRig, Rig

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
    "AABJRU5ErkJggg=="
)


@pytest.fixture(autouse=True)
async def _limit() -> AsyncIterator[None]:
    with trio.fail_after(90):
        yield


async def test_a_resumed_worker_holds_the_work_of_the_tools(rig: Rig) -> None:
    talk = await worked(rig)
    first = talk.record
    async with talk.worker(resumed=True) as life:
        await talk.ask(life, "and now?")
    assert talk.seen == [*of_the_tool(talk), ("user", ["and now?"])]
    assert talk.record.session == first.session
    assert talk.record.last_line != first.last_line
    if isinstance(rig, RealRig):
        assert rig.model is not None
        assert rig.model.count == 3


async def test_it_is_resumed_again_and_again(rig: Rig) -> None:
    talk = await worked(rig)
    for number in range(2):
        async with talk.worker(resumed=True) as life:
            await talk.ask(life, f"turn {number}")
            await talk.ask(life, f"more {number}")
            await talk.written()
            await talk.kill(life)
    said = [text for _, text in talk.messages[2:-1]]
    assert [block for _, [block] in talk.seen[4:]] == said
    of_the_tool(talk)


async def test_a_client_that_sends_only_what_is_new(rig: Rig) -> None:
    talk = await worked(rig)
    first = talk.messages
    talk.messages = []
    async with talk.worker(resumed=True) as life:
        await talk.ask(life, "and now?")
    talk.messages = [*first, *talk.messages]
    assert talk.seen == [*of_the_tool(talk), ("user", ["and now?"])]


async def test_a_worker_that_ends_in_order_can_be_resumed_without_a_wait(rig: Rig) -> None:
    talk = Conversation(rig)
    use_tool(rig)
    async with talk.worker() as life:
        await talk.ask(life, "question")
    assert talk.record.last_line is not None
    await check_resumable(await talk.transcript(), talk.record.last_line)
    echo(rig)
    async with talk.worker(resumed=True) as life:
        await talk.ask(life, "and now?")
    assert talk.seen == [*of_the_tool(talk), ("user", ["and now?"])]


async def test_a_resumed_worker_that_is_not_used_changes_nothing(rig: Rig) -> None:
    talk = await worked(rig)
    for hard in (True, False):
        async with talk.worker(resumed=True) as life:
            if hard:
                await talk.kill(life)
    assert talk.record.last_line is not None
    await check_resumable(await talk.transcript(), talk.record.last_line)


@pytest.mark.parametrize("system", [(), ("Be verbose.",), ("Be brief.",), ("Be", "both.")])
async def test_the_system_prompt_is_that_of_the_new_turn(rig: Rig, system: tuple[str, ...]) -> None:
    talk = await worked(rig)
    talk.system = system
    async with talk.worker(resumed=True) as life:
        await talk.ask(life, "and now?")
    assert talk.seen_system.endswith("\n\n".join(system))
    assert ("Be brief." in talk.seen_system) is (system == ("Be brief.",))


async def test_images_of_the_history_come_back(rig: Rig) -> None:
    picture = Image("image/png", PIXEL)
    talk = Conversation(rig)
    talk.messages = [("user", [Text("before"), picture]), ("assistant", "seen")]
    async with talk.worker() as life:
        await talk.ask(life, [picture, Text("and this?")], known=False)
        await talk.written()
        await talk.kill(life)
    async with talk.worker(resumed=True) as life:
        await talk.ask(life, "thanks")
    block = ["image", "image/png", PIXEL]
    assert talk.seen == [
        ("user", ["before", block]),
        ("assistant", ["seen"]),
        ("user", [block, "and this?"]),
        ("assistant", [talk.messages[3][1]]),
        ("user", ["thanks"]),
    ]
