"""A warm CLI process without any server around it: what a daemon can at best be as fast as."""

import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from bench.client import PATIENCE, Answer
from maxd.workers.faults import Fault
from maxd.workers.profiles import Profile, command_line
from maxd.workers.protocol import Output, Protocol, Ready
from maxd.workers.turn import Finished, Message, Text, TextDelta, Turn

READ_SIZE = 256 * 1024


class Bare:
    """CLI processes on plain pipes, each for one question. Leaving it kills the last."""

    def __init__(
        self, cli: Path, profile: Profile, model: str, environment: Mapping[str, str], cwd: Path
    ) -> None:
        self._cli = cli
        self._profile = profile
        self._model = model
        self._environment = environment
        self._cwd = cwd
        self._process: _Process | None = None

    def __enter__(self) -> "Bare":
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def prepare(self) -> None:
        """Start a process and wait until it answers on stdin. Raises OSError or EOFError."""
        self._end()
        argv = command_line(str(self._cli), self._profile, self._model)
        self._process = _Process(argv, self._environment, self._cwd, Protocol(self._profile))
        self._process.wait_ready()

    def ask(self, prompt: str, request_id: str) -> Answer:
        """Ask the prepared process its one question, and end it."""
        assert self._process is not None
        message = Message("user", (Text(prompt),))
        turn = Turn(profile=self._profile.name, model=self._model, messages=(message,))
        try:
            return self._process.ask(turn)
        finally:
            self._end()

    def cpu(self) -> float:
        return 0.0

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process = None


class _Process:
    """One CLI process, and the protocol spoken with it without any concurrency."""

    def __init__(
        self, argv: list[str], environment: Mapping[str, str], cwd: Path, protocol: Protocol
    ) -> None:
        self._protocol = protocol
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=environment,
            cwd=cwd,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin = self._process.stdin.fileno()
        self._stdout = self._process.stdout.fileno()

    def kill(self) -> None:
        """Kill the process and its session, and close the pipes."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def wait_ready(self) -> None:
        """Wait until it answers on stdin. Raises OSError or EOFError."""
        os.write(self._stdin, self._protocol.ask_ready())
        while not any(isinstance(output, Ready) for output in self._read()):
            pass

    def ask(self, turn: Turn) -> Answer:
        """The answer to `turn`."""
        begin = self._protocol.begin(turn)
        text, problem, finished = "", None, False
        first: float | None = None
        now = started = time.perf_counter()
        try:
            os.write(self._stdin, begin)
            while not finished:
                outputs = self._read()
                now = time.perf_counter()
                for output in outputs:
                    match output:
                        case TextDelta():
                            first = now - started if first is None else first
                            text += output.text
                        case Finished():
                            finished = True
                        case Fault():
                            raise output
                        case _:
                            pass
        except (Fault, OSError, EOFError) as error:
            problem = f"{type(error).__name__}: {error}"
        total = now - started
        return Answer(text, total if first is None else first, total, problem)

    def _read(self) -> list[Output]:
        if not select.select([self._stdout], [], [], PATIENCE)[0]:
            raise TimeoutError(f"the process said nothing for {PATIENCE:.0f} s")
        data = os.read(self._stdout, READ_SIZE)
        if not data:
            raise EOFError("the process has ended")
        outputs = self._protocol.feed(data)
        if reply := self._protocol.data_to_send():
            os.write(self._stdin, reply)
        return outputs
