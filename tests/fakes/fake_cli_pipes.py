"""The pipes of the fake CLI, and everything that can go wrong with them and with it."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


class Stdin:
    """Lines from stdin, read without a buffer of the system's that nobody could look into."""

    def __init__(self) -> None:
        self.pending = b""
        self.lines: list[bytes] = []
        self.ended = False

    def receive(self, seconds: float | None) -> None:
        """Take in what is there, after at most `seconds` (None: for ever) of waiting for it."""
        while not self.ended and select.select([0], [], [], seconds)[0]:
            data = os.read(0, 1 << 20)
            self.ended = not data
            *whole, self.pending = (self.pending + data).split(b"\n")
            self.lines += whole
            seconds = 0

    def message(self) -> Any:
        """The next message; None at the end of stdin."""
        while not self.lines:
            if self.ended:
                return None
            self.receive(None)
        return self.take()

    def take(self) -> Any:
        line = self.lines.pop(0)
        try:
            return json.loads(line)
        except ValueError:
            words = f"Error parsing streaming input line ({len(line)} chars): SyntaxError"
            fail(words)


class Faults:
    """What it says, and what happens to it at the steps of its life."""

    def __init__(self, settings: dict[str, str]) -> None:
        self.settings = settings
        self.plan = parse_plan(settings.get("at", ""))
        self.bytewise = False
        self.muted = False

    def at(self, step: str) -> None:
        for action, value in self.plan.get(step, ()):
            getattr(self, f"do_{action}")(value)

    def do_exit(self, value: str) -> None:
        os._exit(int(value))

    def do_signal(self, value: str) -> None:
        os.kill(os.getpid(), signal.Signals[value])
        time.sleep(60)

    def do_wait(self, value: str) -> None:
        time.sleep(float(value))

    def do_hang(self, _value: str) -> None:
        while True:
            time.sleep(60)

    def do_mute(self, _value: str) -> None:
        self.muted = True

    def do_ignore(self, value: str) -> None:
        signal.signal(signal.Signals[value], signal.SIG_IGN)

    def do_junk(self, value: str) -> None:
        for number in range(int(value)):
            self.write(b"\x00\xff\xfe{]" + bytes(range(128, 200)) + b"%d\n" % number)

    def do_odd(self, _value: str) -> None:
        self.say({"type": "invented", "request": {"deep": [[[{}]]]}})
        self.say({"type": "system", "subtype": "invented", "attempt": 0})
        self.say({"type": "stream_event", "event": {"type": "invented", "index": 7}})
        self.say({"type": "tool_progress", "heartbeat": True})
        self.write(b"\n\r\n   \n")

    def do_broken(self, _value: str) -> None:
        self.say({"type": "result", "is_error": "perhaps"})

    def do_line(self, value: str) -> None:
        self.say({"type": "padding", "data": "x" * (int(value) << 20)})

    def do_badline(self, value: str) -> None:
        self.write(b'{"type": "result", "is_error": ' + b"x" * (int(value) << 20) + b"\n")

    def do_endless(self, _value: str) -> None:
        block = b"x" * (1 << 20)
        while True:
            self.write(block)

    def do_bytewise(self, _value: str) -> None:
        self.bytewise = True

    def do_stderr(self, value: str) -> None:
        block = (b"a line of noise on stderr that is about sixty-four bytes " * 1200)[:65536]
        for _ in range(int(value) << 4):
            write_all(2, block)

    def do_tell(self, value: str) -> None:
        write_all(2, value.encode() + b"\n")

    def do_children(self, value: str) -> None:
        import subprocess

        hostile = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hostile.py")
        held = os.dup(1)
        os.set_inheritable(held, True)
        token = self.settings.get("token", "fake-cli-child")
        argv = [sys.executable, "-I", "-S", hostile, value, token]
        child = subprocess.Popen(argv, stdout=subprocess.PIPE, close_fds=False)
        assert child.stdout is not None
        child.stdout.readline()
        os.close(held)

    def do_close(self, _value: str) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def write(self, data: bytes) -> None:
        if self.muted:
            return
        try:
            if self.bytewise:
                for index in range(len(data)):
                    write_all(1, data[index : index + 1])
            else:
                write_all(1, data)
        except BrokenPipeError:
            os._exit(1)

    def say(self, message: dict[str, Any]) -> None:
        self.write(json.dumps(message, ensure_ascii=False).encode() + b"\n")


def parse_plan(text: str) -> dict[str, list[tuple[str, str]]]:
    plan: dict[str, list[tuple[str, str]]] = {}
    for word in text.split():
        step, _, action = word.partition(":")
        name, _, value = action.partition("=")
        plan.setdefault(step, []).append((name, value))
    return plan


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def fail(words: str) -> NoReturn:
    write_all(2, words.encode() + b"\n")
    os._exit(1)
