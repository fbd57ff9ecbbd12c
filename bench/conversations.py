"""What comes after the first turn, and many short conversations with one system text."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from bench.client import Answer, Line, ask_messages
from bench.cpu import settled_cpu_of_tree
from bench.figures import heading, plain, ratios, values
from bench.rounds import Server

SYSTEM = "You repeat what you are told."
AT_ONCE = 2


@dataclass(frozen=True)
class Series:
    """Many one-shot requests: per second, and seconds of CPU for each."""

    rate: float
    cpu: float


class Chat:
    """One conversation with a server, as OpenAI's clients have it: on one connection, the whole
    history in each request."""

    def __init__(self, server: Server, line: Line) -> None:
        self._model = server.model
        self._line = line
        self._messages: list[dict[str, Any]] = [{"role": "system", "content": SYSTEM}]

    def say(self, text: str) -> Answer:
        self._messages.append({"role": "user", "content": text})
        answer = self._line.ask(self._model, self._messages, stream=True, request_id="bench")
        self._messages.append({"role": "assistant", "content": answer.text})
        return answer


def follow_ups(ours: Server, other: Server, turns: int, problems: list[str]) -> Iterator[str]:
    """The first token of the later turns of a chat, the two servers in turn."""
    first: dict[str, list[float]] = {"a": [], "c": []}
    with Line(ours.port) as our_line, Line(other.port) as other_line:
        chats = {"a": Chat(ours, our_line), "c": Chat(other, other_line)}
        for number in range(turns + 1):
            for name, chat in chats.items():
                # A person reads before answering; a worker settles.
                time.sleep(1.0)
                answer = chat.say(_prompt(f"canary-{number}"))
                # The proxy makes one prompt of all messages, in which the first directive counts.
                wrong = name == "a" and f"canary-{number}" not in answer.text
                if answer.problem or wrong:
                    problems.append(f"{name}, turn {number}: {answer.problem or answer.text!r}")
                if number:
                    first[name].append(answer.first)
    yield heading(f"First token of {turns} later turns of a chat, ms", target=True)
    yield values("a   maxd, claude-sonnet-4:chat", first["a"])
    yield values("c   claude-max-api-proxy", first["c"])
    yield ratios("c/a", first["c"], first["a"], "≥ 15")


def one_shots(ours: Server, other: Server, times: int, problems: list[str]) -> Iterator[str]:
    """Independent requests, two at a time: how many a second, and what CPU each takes."""
    # Both ways of going on are warm before it counts.
    _series(ours, 2 * AT_ONCE, problems.append)
    a = _series(ours, times * 4, problems.append)
    c = _series(other, times, problems.append)
    yield heading("Independent one-shot requests with one system text, 2 at a time", target=True)
    yield plain("a   maxd, 2 workers: requests per second", a.rate)
    yield plain("c   claude-max-api-proxy: requests per second", c.rate)
    yield plain("a/c requests per second", a.rate / c.rate, "≥ 8")
    yield plain("a   CPU per request, ms", 1000 * a.cpu)
    yield plain("c   CPU per request, ms", 1000 * c.cpu)
    yield plain("c/a CPU per request", c.cpu / a.cpu, "≥ 7")


def _prompt(answer: str) -> str:
    """What makes the loopback model answer so, also when the prompt is part of a longer one."""
    return f"<<loopback {json.dumps({'text': answer})} >>"


def _series(server: Server, times: int, problem: Callable[[str], None]) -> Series:
    def one(number: int) -> None:
        messages = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": _prompt(f"canary-{number:04}")},
        ]
        answer = ask_messages(server.port, server.model, messages, stream=False, request_id="b")
        if answer.problem or f"canary-{number:04}" not in answer.text:
            problem(f"one-shot {number}: {answer.problem or answer.text!r}")

    before = settled_cpu_of_tree(server.pid)
    started = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(one, range(times)))
    took = time.perf_counter() - started
    return Series(times / took, (settled_cpu_of_tree(server.pid) - before) / times)
