"""What is asked in which order, and what of it counts."""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from bench.client import Answer, ask
from bench.cpu import settled_cpu_of_tree

# What the loopback model says to somebody who asks for the first time.
NEW_CONVERSATION = "I was given no earlier message."


class Subject(Protocol):
    """Something that can be asked."""

    def prepare(self) -> None:
        """Get ready to be asked; not part of the measurement."""

    def ask(self, prompt: str, request_id: str) -> Answer:
        """Ask, as a new conversation."""

    def cpu(self) -> float:
        """Processor time used so far, in seconds; always 0 where it is not measured."""


@dataclass(frozen=True)
class Server:
    """A model of a server over HTTP.

    `pid` is that of the server. A stream's time is measured; a whole answer's processor time
    too, which needs a rest before and after it.
    """

    port: int
    model: str
    pid: int
    stream: bool = True

    def prepare(self) -> None:
        pass

    def ask(self, prompt: str, request_id: str) -> Answer:
        return ask(self.port, self.model, prompt, stream=self.stream, request_id=request_id)

    def cpu(self) -> float:
        return 0.0 if self.stream else settled_cpu_of_tree(self.pid)


@dataclass(frozen=True)
class Sample:
    """One right answer. `cpu` is the processor time in seconds, where it was measured."""

    answer: Answer
    request_id: str
    cpu: float = 0.0


class Bench:
    """Asks, checks every answer, and keeps the wrong ones in `problems`.

    `pause` is how long nothing happens before each request, in seconds.
    """

    def __init__(self, pause: float, progress: Callable[[str], None]) -> None:
        self._pause = pause
        self._progress = progress
        self.problems: list[str] = []

    def interleaved(self, subjects: Mapping[str, Subject], times: int) -> list[dict[str, Sample]]:
        """Ask each of `subjects` once in each of `times` rounds, with a pause before each.

        Returns the rounds in which all answers were right. One more, before them, is not
        counted: in it files are read and code is compiled for the first time.

        Each subject prepares for the next round as soon as it has answered, as a pool of warm
        processes does. A process must not be asked when it is new: CLI 2.1.330 does 125 ms of
        work on timers in the first two seconds after it has become ready.
        """
        for subject in subjects.values():
            subject.prepare()
        rounds = []
        for number in range(times + 1):
            samples: dict[str, Sample] = {}
            for name, subject in subjects.items():
                time.sleep(self._pause)
                before = subject.cpu()
                sample = self._ask(name, subject)
                if sample is not None:
                    samples[name] = replace(sample, cpu=subject.cpu() - before)
                subject.prepare()
            self._progress(f"round {number} of {times}")
            if number > 0 and len(samples) == len(subjects):
                rounds.append(samples)
        return rounds

    def back_to_back(self, name: str, subject: Subject, times: int) -> list[Sample]:
        """Ask `times` times without a pause. Returns the samples with right answers."""
        time.sleep(self._pause)
        samples = [self._ask(name, subject) for _ in range(times)]
        self._progress(f"{name}: {times} back to back")
        return [sample for sample in samples if sample is not None]

    def _ask(self, name: str, subject: Subject) -> Sample | None:
        canary = f"canary-{secrets.token_hex(8)}"
        request_id = f"bench-{secrets.token_hex(8)}"
        answer = subject.ask(f"Repeat {canary}.", request_id)
        problem = answer.problem
        if problem is None and canary not in answer.text:
            problem = f"the canary is missing in {answer.text!r}"
        if problem is None and NEW_CONVERSATION not in answer.text:
            problem = f"this was no new conversation: {answer.text!r}"
        if problem is not None:
            self.problems.append(f"{name}: {problem}")
            return None
        return Sample(answer, request_id)
