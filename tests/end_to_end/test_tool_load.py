"""Many conversations with functions at once, of which some are left and some lose their worker."""

import os
import random
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import trio

from tests.end_to_end.running import DaemonProcess, LoopbackProcess, directive

# The 300 of a soak take several minutes on two processors: each needs a process, or two.
CONVERSATIONS = int(os.environ.get("MAXD_SOAK", "24"))
AT_ONCE = min(30, CONVERSATIONS)
ROUNDS = 3
ABANDONED = 0.2
KILLED = 0.1
CANARY = re.compile(r"canary-\d+-")
CLOCK = {
    "type": "function",
    "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}},
}


@pytest.fixture
def daemon(tmp_path: Path, model: LoopbackProcess) -> Iterator[DaemonProcess]:
    variables = {
        "MAXD_POOL_WARM": "sonnet:chat",
        "MAXD_POOL_MAX_WORKERS": "8",
        "MAXD_POOL_QUEUE_LENGTH": "1000",
        "MAXD_POOL_QUEUE_SECONDS": "900",
    }
    with DaemonProcess(tmp_path, model.base_url, variables) as daemon:
        daemon.wait_serving()
        yield daemon
        assert daemon.stop() == 0


class Client:
    """A client of one conversation, which looks at all that it is told."""

    def __init__(self, number: int, web: httpx.AsyncClient, outcomes: Counter[str]) -> None:
        chance = random.Random(number)
        self._canary = f"canary-{number}-"
        self._web = web
        self._outcomes = outcomes
        self._delays = [chance.random() * 2 for _ in range(ROUNDS)]
        fate = chance.random()
        self._left = fate < ABANDONED
        self._killed = ABANDONED <= fate < ABANDONED + KILLED
        self._round = chance.randrange(ROUNDS)
        calls = [{"tool": "mcp__client__clock", "input": {"of": self._canary}}] * ROUNDS
        asked = directive(replies=[*calls, {"text": f"over {self._canary}"}])
        self._messages: list[dict[str, Any]] = [{"role": "user", "content": asked}]

    async def run(self) -> None:
        for number in range(ROUNDS):
            answer = await self._ask()
            calls = answer["tool_calls"]
            assert [self._canary in call["function"]["arguments"] for call in calls] == [True]
            if number == self._round and self._left:
                self._outcomes["left"] += 1
                return
            if number == self._round and self._killed:
                await self._kill()
            # The client's function takes this long.
            await trio.sleep(self._delays[number])
            result = f"{self._canary} {number}"
            told = {"role": "tool", "tool_call_id": calls[0]["id"], "content": result}
            self._messages += [answer, told]
        assert (await self._ask())["content"] == f"over {self._canary}"
        self._outcomes["killed and right" if self._killed else "right"] += 1

    async def _ask(self) -> dict[str, Any]:
        body = {"model": "sonnet:chat", "messages": self._messages, "tools": [CLOCK]}
        reply = await self._web.post("/v1/chat/completions", json=body)
        assert reply.status_code == 200, reply.text
        self._conversation = reply.headers["x-conversation-id"]
        told: dict[str, Any] = reply.json()["choices"][0]["message"]
        return told

    async def _kill(self) -> None:
        """Kill the worker that waits for this client, if it still does."""
        workers = (await self._web.get("/status")).json()["workers"]
        for worker in workers:
            if worker["conversation"] == self._conversation and worker["state"] == "parked":
                psutil.Process(worker["pid"]).send_signal(signal.SIGKILL)
                self._outcomes["workers killed"] += 1


@pytest.mark.soak
async def test_every_conversation_that_goes_on_is_right(
    daemon: DaemonProcess, model: LoopbackProcess
) -> None:
    outcomes: Counter[str] = Counter()
    room = trio.CapacityLimiter(AT_ONCE)
    async with httpx.AsyncClient(base_url=daemon.base_url, timeout=900) as web:

        async def serve(number: int) -> None:
            async with room:
                await Client(number, web, outcomes).run()

        async with trio.open_nursery() as nursery:
            for number in range(CONVERSATIONS):
                nursery.start_soon(serve, number)
        ended = outcomes["right"] + outcomes["killed and right"] + outcomes["left"]
        assert ended == CONVERSATIONS, outcomes
        # Those that were left hold nobody up: everyone who comes now is served.
        outcomes.clear()
        async with trio.open_nursery() as nursery:
            for number in range(CONVERSATIONS, CONVERSATIONS + 8):
                nursery.start_soon(serve, number)
        pool = (await web.get("/status")).json()["pool"]
    assert (pool["leased"], pool["queued"], pool["stuck"]) == (0, 0, 0)
    assert pool["size"] <= 8
    for request in model.requests():
        seen = set(CANARY.findall(str(request["body"]["messages"])))
        assert len(seen) == 1, "one conversation has reached another"
