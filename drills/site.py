"""The place of the drills: a loopback model, a daemon with the real CLI, and the health check."""

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import httpx
import openai
import psutil

from drills.outcome import Outcome
from maxd.workers.tree import MARKER
from tests.end_to_end.running import DaemonProcess, LoopbackProcess, directive, real_cli

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk

MODEL: Final = "sonnet:chat"
# How long a turn may make no progress at all, so that a hung one is seen within a drill.
ACTIVITY_SECONDS: Final = 4.0
DRAIN_SECONDS: Final = 12
SEND_SECONDS: Final = 4
# For the daemon to come to rest after a fault: a kill has 5 s, a start 30 s.
REST_SECONDS: Final = 60.0
# A worker takes five (three pipes, the control socket, the pidfd); a few connections come and go.
FDS_OF_WORKER: Final = 5
FDS_TO_SPARE: Final = 12
CONFIG: Final = f"[profiles.chat]\nactivity_minutes = {ACTIVITY_SECONDS / 60}\n"
# Stands for the site's folder in the settings of a drill.
ROOT: Final = "{root}"
VARIABLES: Final = {
    "MAXD_POOL_WARM": MODEL,
    "MAXD_SERVER_DRAIN_SECONDS": str(DRAIN_SECONDS),
    "MAXD_SERVER_SEND_TIMEOUT_SECONDS": str(SEND_SECONDS),
}

T = TypeVar("T")


class Stream:
    """A streamed turn whose first text has come."""

    def __init__(self, client: openai.OpenAI, words: int, pace: float) -> None:
        self._expected = [f"word{number}" for number in range(1, words + 1)]
        prompt = [{"role": "user", "content": directive(words=words, pace=pace)}]
        raw = client.chat.completions.with_raw_response.create(
            model=MODEL,
            messages=prompt,  # type: ignore[arg-type]
            stream=True,
        )
        self.conversation = raw.headers["x-conversation-id"]
        stream = raw.parse()
        assert isinstance(stream, openai.Stream)
        self._stream: openai.Stream[ChatCompletionChunk] = stream
        self.text = ""
        self.error = ""
        while not self.text:
            self.text += next(self._stream).choices[0].delta.content or ""

    def end(self) -> str:
        """Read to the end: "whole", the error's code, or what was wrong."""
        finish = None
        try:
            for chunk in self._stream:
                for choice in chunk.choices:
                    self.text += choice.delta.content or ""
                    finish = choice.finish_reason or finish
        except openai.APIError as error:
            self.error = error.message
            return error.code or type(error).__name__
        except httpx.HTTPError as error:
            return type(error).__name__
        if self.text.split() == self._expected and finish == "stop":
            return "whole"
        return f"ended with {finish} after {len(self.text.split())} words"

    def close(self) -> None:
        self._stream.close()


class Site:
    """A loopback model, a daemon before it, and a conversation that was begun before any fault.

    Everything lies in `root`. Closing it ends all processes.
    """

    def __init__(self, root: Path, variables: Mapping[str, str]) -> None:
        self.root = root
        configuration = root / "home" / ".config" / "maxd"
        configuration.mkdir(parents=True)
        (configuration / "config.toml").write_text(CONFIG)
        self.cli = root / "claude"
        self.install_cli()
        self._variables = {**VARIABLES, "MAXD_CLI_PATH": str(self.cli)}
        for name, value in variables.items():
            self._variables[name] = value.replace(ROOT, str(root))
        self._pool = ThreadPoolExecutor(64)
        self._victims: list[psutil.Process] = []
        self._history: list[dict[str, str]] = []
        self._asked = 0
        self.model = LoopbackProcess()
        self.daemon = self.start_daemon()
        try:
            self.daemon.wait_serving()
            self.client = self.daemon.client()
            self.go_on()
            self.wait_rest()
            self.note_fds()
        except BaseException:  # Ctrl-C too: no process of the site is left. It goes on.
            self.close()
            raise

    def install_cli(self) -> None:
        """Put the real CLI where the daemon looks for it, in place of what is there."""
        new = self.root / "claude.new"
        # What the daemon is preloaded with is no fault of the CLI's.
        new.write_text(f'#!/bin/sh\nunset LD_PRELOAD\nexec {real_cli()} "$@"\n')
        new.chmod(0o755)
        new.replace(self.cli)

    def start_daemon(self, **variables: str) -> DaemonProcess:
        return DaemonProcess(self.root, self.model.base_url, {**self._variables, **variables})

    def restart(self) -> None:
        """Start the next daemon; the one before must have ended."""
        self.client.close()
        self.daemon = self.start_daemon().wait_serving()
        self.client = self.daemon.client()
        self.wait_rest()
        self.note_fds()

    def close(self) -> None:
        with suppress(AttributeError):
            self.client.close()
        # A keeper that a drill has stopped, and did not live to see the end of, sweeps nothing.
        for process in self._victims:
            with suppress(psutil.Error):
                process.resume()
        self.daemon.__exit__(None, None, None)
        _, left = psutil.wait_procs(self._victims, timeout=5)
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        self.model.close()
        self._pool.shutdown()

    # What clients do.

    def ask(self, **reply: Any) -> str:
        """The text of a turn's answer. Raises openai.APIError."""
        return self.answer([{"role": "user", "content": directive(**reply)}])

    def answer(self, messages: list[dict[str, str]]) -> str:
        completion = self.client.chat.completions.create(model=MODEL, messages=messages)  # type: ignore[arg-type]
        return completion.choices[0].message.content or ""

    def refusal(self, **reply: Any) -> tuple[int, str]:
        """Status and code of a turn's error; (200, "") if there is none."""
        try:
            self.ask(**reply)
        except openai.APIStatusError as error:
            return error.status_code, error.code or ""
        except openai.APIError as error:
            return 0, type(error).__name__
        return 200, ""

    def asking(self, **reply: Any) -> "Future[str]":
        """A turn that is asked for beside what the drill does."""
        return self._pool.submit(self.ask, **reply)

    def refused(self, **reply: Any) -> "Future[tuple[int, str]]":
        """The same for one that may fail."""
        return self._pool.submit(self.refusal, **reply)

    @contextmanager
    def stream(self, words: int, pace: float = 0.05) -> Iterator[Stream]:
        stream = Stream(self.client, words, pace)
        try:
            yield stream
        finally:
            stream.close()

    def go_on(self) -> None:
        """One more turn of the old conversation. Raises AssertionError if the model was not given
        all of it, openai.APIError if it fails."""
        self._asked += 1
        text = f"answer {self._asked}"
        prompt = {"role": "user", "content": f"question {self._asked} {directive(text=text)}"}
        history = [*self._history, prompt]
        self.model.forget()
        answer = self.answer(history)
        assert answer == text, f"the answer is {answer!r}"
        given = self.model.conversations()[-1]
        assert given == [(each["role"], each["content"]) for each in history], (
            f"the model was given {len(given)} of {len(history)} messages"
        )
        self._history = [*history, {"role": "assistant", "content": answer}]

    # What the operator sees.

    def status(self) -> dict[str, Any]:
        page: dict[str, Any] = httpx.get(f"{self.daemon.base_url}/status", timeout=10).json()
        return page

    def wait(self, look: Callable[[], T | None], what: str, seconds: float = REST_SECONDS) -> T:
        """What `look` gives once it gives something. Raises AssertionError with `what`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = look()
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError(f"{what} within {seconds:.0f} s")

    def worker(self, state: str, conversation: str | None = None) -> psutil.Process:
        """The CLI of a worker in this state, of this conversation if one is named."""

        def look() -> psutil.Process | None:
            for worker in self.status()["workers"]:
                wanted = conversation is None or worker["conversation"] == conversation
                if worker["state"] == state and wanted and worker["pid"]:
                    with suppress(psutil.NoSuchProcess):
                        return psutil.Process(worker["pid"])
            return None

        return self.wait(look, f"no worker is {state}")

    def wait_rest(self) -> None:
        """Until nothing runs, waits, starts or ends, and a spare is ready if there is room."""

        def look() -> bool:
            status = self.status()
            pool = status["pool"]
            moving = [pool[state] for state in ("leased", "starting", "ending", "queued")]
            full = pool["size"] == pool["limit"]
            return not any(moving) and not status["running"] and (pool["spares"] > 0 or full)

        self.wait(look, "the pool did not come to rest")

    def spare(self) -> psutil.Process:
        """The CLI of a spare. Where idle workers leave no room for one, they are killed."""
        if not self.status()["pool"]["spares"]:
            self.kill_idle()
        return self.worker("spare")

    def note_fds(self) -> None:
        self._fds = self._own_fds()

    def _own_fds(self) -> int:
        """The daemon's open files, without those of its workers."""
        open_files = psutil.Process(self.daemon.process.pid).num_fds()
        return open_files - FDS_OF_WORKER * int(self.status()["pool"]["size"])

    # What breaks.

    def keeper(self, worker: psutil.Process) -> psutil.Process:
        keeper = worker.parent()
        assert keeper is not None
        return keeper

    def doom(self, worker: psutil.Process) -> None:
        """Remember the worker's tree: the health check looks whether anything of it is left."""
        keeper = self.keeper(worker)
        self._victims += [keeper, *keeper.children(recursive=True)]

    def kill_idle(self) -> None:
        """Kill the worker of every conversation that waits for its next turn."""
        for worker in [each for each in self.status()["workers"] if each["state"] == "idle"]:
            process = psutil.Process(worker["pid"])
            self.doom(process)
            process.kill()

    def doom_all(self) -> None:
        self._victims += self.daemon.tree()

    # The same check after every drill.

    def check_health(self, outcome: Outcome) -> None:
        """See whether the daemon is as good as new; what is not, is broken."""
        before = len(outcome.broken)
        for what, look in (
            ("the daemon has the same pid", self._check_daemon),
            ("/health answers", self._check_page),
            ("the pool is at rest", self.wait_rest),
            ("a fresh request is answered", self._check_fresh),
            ("the old conversation goes on", self.go_on),
            ("no slot is leased or stuck", self._check_slots),
            ("no process is left", self._check_processes),
            ("no file is left open", self._check_fds),
        ):
            try:
                look()
            except (AssertionError, openai.APIError, httpx.HTTPError, psutil.Error) as error:
                outcome.breaks(f"health, {what}: {type(error).__name__} {error}{self.last_words()}")
                break
        outcome.healthy += len(outcome.broken) == before

    def last_words(self) -> str:
        """What the daemon said last, if it has ended."""
        # It may be on its way out: its workers are killed first.
        try:
            self.daemon.process.wait(DRAIN_SECONDS)
        except subprocess.TimeoutExpired:
            return ""
        said = " / ".join(str(entry["event"]).strip(" |") for entry in self.daemon.log[-12:])
        return f"; the daemon has ended: {said}"

    def _check_daemon(self) -> None:
        code = self.daemon.process.poll()
        assert code is None, f"exit code {code}"

    def _check_page(self) -> None:
        assert httpx.get(f"{self.daemon.base_url}/health", timeout=5).status_code == 200

    def _check_fresh(self) -> None:
        answer = self.ask(text="as good as new")
        assert answer == "as good as new", f"the answer is {answer!r}"

    def _check_slots(self) -> None:
        self.wait_rest()
        pool = self.status()["pool"]
        assert pool["stuck"] == 0, f"{pool['stuck']} slots are stuck"

    def _check_processes(self) -> None:
        _, left = psutil.wait_procs(self._victims, timeout=10)
        assert not left, f"of killed workers is left: {left}"
        self._victims.clear()
        ours = {each.pid for each in self.daemon.tree()}
        strays = [each for each in psutil.process_iter() if self._is_stray(each, ours)]
        assert not strays, f"outside the daemon's tree: {strays}"

    def _is_stray(self, process: psutil.Process, ours: set[int]) -> bool:
        """Whether it is of a worker of this site and no longer below the daemon."""
        with suppress(psutil.Error):
            variables = process.environ()
            mine = variables.get("HOME") == str(self.root / "home") and MARKER in variables
            alive = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
            return mine and alive and process.pid not in ours
        return False

    def _check_fds(self) -> None:
        def look() -> bool:
            return self._own_fds() <= self._fds + FDS_TO_SPARE

        self.wait(look, f"{self._own_fds()} files are open, {self._fds} before, still", 15)
