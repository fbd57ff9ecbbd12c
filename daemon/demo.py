"""`maxd demo`: the same daemon and the real CLI, with the loopback model for a service."""

import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import h11
import msgspec
import trio

from maxd.daemon.profile_settings import Profiles
from maxd.daemon.settings import Config, Pool, Server, State
from maxd.workers.loopback import Reply, Request, environment, serve_loopback_model
from maxd.workers.loopback.script import directed, echo

QUESTION = "What is maxd?"
ANSWER = (
    "maxd keeps warm claude processes and lends them to any program that speaks OpenAI's API. "
    "This answer went from a scripted model on this machine through the real claude CLI, through "
    "maxd and over HTTP to you, word by word, without an account and without the internet."
)
# Words come about as fast as a model's.
PACE = 0.03

EXAMPLES = """
It goes on serving. Try it from another terminal:

    curl {base}/v1/chat/completions -H 'content-type: application/json' -d '{{
      "model": "claude-sonnet-4:chat",
      "messages": [{{"role": "user", "content": "Hello"}}]}}'

    curl -N {base}/v1/chat/completions -H 'content-type: application/json' -d '{{
      "model": "claude-sonnet-4:chat", "stream": true,
      "messages": [{{"role": "user", "content": "Hello"}}]}}'

or with the OpenAI SDK (pip install openai):

    from openai import OpenAI

    client = OpenAI(base_url="{base}/v1", api_key="not-needed")
    stream = client.chat.completions.create(
        model="claude-sonnet-4:chat",
        messages=[{{"role": "user", "content": "Hello"}}],
        stream=True,
    )
    for chunk in stream:
        print(chunk.choices[0].delta.content or "", end="", flush=True)

Ctrl-C ends it.
"""


class Demo:
    """A private home, a loopback model, and the show. Leaving it removes the home."""

    def __init__(self, inherited: Mapping[str, str]) -> None:
        # No login, proxy or setting of the user's may reach the CLI of a demo.
        self._inherited = {
            name: value for name, value in inherited.items() if name in ("PATH", "LANG", "TERM")
        }
        if "CLAUDE_CLI" in inherited:
            self._inherited["CLAUDE_CLI"] = inherited["CLAUDE_CLI"]
        self._home = Path()
        self.environment: dict[str, str] = {}
        self.port_is_wanted = False

    def __enter__(self) -> "Demo":
        self._home = Path(tempfile.mkdtemp(prefix="maxd-demo-"))
        return self

    def __exit__(self, *error: object) -> None:
        # A worker's last write may come while its folder is being removed.
        shutil.rmtree(self._home, ignore_errors=True)

    def config(self, port: int | None) -> Config:
        """The demo's settings. Without `port` it is the usual one, or another if that is taken."""
        self.port_is_wanted = port is not None
        return Config(
            server=Server(port=Server().port if port is None else port),
            pool=Pool(max_workers=4),
            profiles=Profiles(directory=str(self._home / "workspace")),
            state=State(directory=str(self._home / "state")),
        )

    async def serve_model(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve the loopback model; `environment` leads to it once this has started."""
        async with trio.open_nursery() as nursery:
            model = await nursery.start(_loopback_model)
            home = self._home / "home"
            home.mkdir(exist_ok=True)
            self.environment = self._inherited | environment(model.base_url, str(home))
            task_status.started()

    async def play(self, base: str) -> None:
        """Ask the daemon at `base` one question, show the answer as it comes, say what to try."""
        print(f"maxd is serving on {base} with a real claude process.\n\n> {QUESTION}\n")
        await ask(base, QUESTION, partial(print, end="", flush=True))
        print(f"\n{EXAMPLES.format(base=base)}", flush=True)


async def _loopback_model(*, task_status: trio.TaskStatus[object]) -> None:
    await serve_loopback_model(script=_answer, task_status=task_status)


def _answer(request: Request) -> Reply | None:
    messages = request.body.get("messages", ())
    reply = directed(messages) or echo(messages)
    if QUESTION in (reply.text or ""):
        reply = msgspec.structs.replace(reply, text=ANSWER)
    return msgspec.structs.replace(reply, pace=PACE) if reply.text else reply


async def ask(base: str, question: str, show: Callable[[str], None]) -> None:
    """Stream the answer to `question` from the daemon at `base`, as any HTTP client would."""
    host, _, port = base.removeprefix("http://").rpartition(":")
    body = msgspec.json.encode(
        {
            "model": "claude-sonnet-4:chat",
            "stream": True,
            "messages": [{"role": "user", "content": question}],
        }
    )
    connection = h11.Connection(h11.CLIENT)
    stream = await trio.open_tcp_stream(host, int(port))
    async with stream:
        head = h11.Request(
            method="POST",
            target="/v1/chat/completions",
            headers=[
                ("host", base.removeprefix("http://")),
                ("content-type", "application/json"),
                ("content-length", str(len(body))),
            ],
        )
        sent = (connection.send(head), connection.send(h11.Data(body)))
        await stream.send_all(b"".join(part for part in sent if part))
        pending = b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Response) and event.status_code != 200:
                print(f"The daemon answered with status {event.status_code}.", file=sys.stderr)
            elif isinstance(event, h11.Data):
                *lines, pending = (pending + event.data).split(b"\n\n")
                for line in lines:
                    if text := _text(line):
                        show(text)
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                return


def _text(line: bytes) -> str:
    data = line.removeprefix(b"data: ")
    if data == b"[DONE]":
        return ""
    choices = msgspec.json.decode(data).get("choices") or [{}]
    return choices[0].get("delta", {}).get("content") or ""
