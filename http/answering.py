"""From a turn that was asked for to its reply, in whichever dialect it was asked."""

import time
from typing import TYPE_CHECKING, Any, cast

from quart import Response, request

from maxd.daemon.turn_facts import server_timing
from maxd.daemon.turns import Turns
from maxd.http.account_headers import account_headers
from maxd.http.credentials import Client, client_of
from maxd.http.dialect import Asked
from maxd.http.quota_headers import Meter
from maxd.http.replying import Settings, streamed, waiting_client, whole
from maxd.http.streaming_header import streaming_of
from maxd.http.wishes import CONVERSATION

if TYPE_CHECKING:
    from contextlib import ExitStack

# What the log and the metrics call the routes that run turns.
DIALECTS = {"/chat/completions": "chat", "/responses": "responses", "/messages": "messages"}


class Answering:
    """Runs turns for the requests in progress. `meter` counts those of each key."""

    def __init__(self, turns: Turns, meter: Meter, settings: Settings) -> None:
        self._turns = turns
        self._meter = meter
        self._settings = settings

    async def answer(self, asked: Asked) -> Response:
        """Run the turn that has been asked for, and reply as its dialect does."""
        state = cast("dict[str, Any]", request.scope)["state"]
        stack: ExitStack = state["stack"]
        client = client_in_progress()
        streaming = streaming_of(request.headers.items())
        # From here to the turn, which counts it out again, nothing may fail. The limits of the key
        # come first: where both have one, the account's is not the nearer.
        count_out = self._meter.count_in(client.key, state["headers"])
        told = {name for name, _ in state["headers"]}
        account = account_headers(self._turns.gate.account, time.time())
        state["headers"].extend(each for each in account if each[0] not in told)
        running = self._turns.run(
            asked.turn,
            client=client.scope,
            request_id=state["request_id"],
            conversation_id=request.headers.get(CONVERSATION),
            streaming=streaming,
            dialect=DIALECTS.get(request.path, "other"),
            key=client.key,
            on_end=count_out,
        )
        state["turn"] = True
        stream = stack.enter_context(running)
        state["headers"].append((b"x-conversation-id", stream.conversation_id.encode()))
        if asked.ignored:
            state["headers"].append((b"x-ignored-params", ", ".join(asked.ignored).encode()))
        try:
            if asked.stream:
                return await streamed(stream, asked.encoder(), self._settings, asked.settle)
            waiting = waiting_client(cast("dict[str, Any]", request.scope))
            return await whole(stream, asked.collector(), self._settings, waiting, asked.settle)
        finally:
            if timing := server_timing(stream.timings()):
                state["headers"].append((b"server-timing", timing.encode()))


def client_in_progress() -> Client:
    """Whose the request in progress is: whom the queue is fair to, and whose conversations are
    its own."""
    return client_of(cast("dict[str, Any]", request.scope)["state"])
