"""Many requests at once: every answer right, none mixed up, the refused told when to come back."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import openai
import pytest

from tests.end_to_end.running import DaemonProcess, LoopbackProcess, directive

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

MODELS = ("claude-sonnet-4:chat", "claude-haiku-4:chat")


def test_200_requests_20_at_a_time_with_4_workers(
    shared_daemon: DaemonProcess, model: LoopbackProcess
) -> None:
    with shared_daemon.client(timeout=300.0) as client:

        def ask(number: int) -> tuple[str | None, str]:
            canary = f"canary-{number:03}"
            completion = client.chat.completions.create(
                model=MODELS[number % 2],
                messages=[
                    {"role": "user", "content": f"first {canary}"},
                    {"role": "assistant", "content": f"noted {canary}"},
                    {"role": "user", "content": directive(text=f"It was {canary}.")},
                ],
            )
            return completion.choices[0].message.content, f"It was {canary}."

        with ThreadPoolExecutor(20) as threads:
            answers = list(threads.map(ask, range(200)))
    assert all(got == expected for got, expected in answers)
    asked = model.conversations()
    assert len(asked) == 200
    for messages in asked:
        canaries = {text[text.index("canary-") :][:10] for _, text in messages}
        assert len(canaries) == 1, "two conversations met in one process"


def test_queue_is_fair_between_clients_and_in_order_within_one(
    tmp_path: Path, model: LoopbackProcess
) -> None:
    variables = {"MAXD_POOL_MAX_WORKERS": "1", "MAXD_POOL_WARM": "sonnet:chat"}
    with DaemonProcess(tmp_path, model.base_url, variables) as daemon:
        daemon.wait_serving()
        order: list[str] = []
        with daemon.client(api_key="greedy") as greedy, daemon.client(api_key="modest") as modest:

            def ask(client: openai.OpenAI, name: str) -> None:
                client.chat.completions.create(
                    model="sonnet:chat", messages=[{"role": "user", "content": f"I am {name}"}]
                )

            with ThreadPoolExecutor(8) as threads:
                done = []
                for number in range(5):
                    done.append(threads.submit(ask, greedy, f"greedy {number}"))
                    _wait_running(daemon, number + 1)
                done.append(threads.submit(ask, modest, "modest"))
                for each in done:
                    each.result()
        order = [text for conversation in model.conversations() for _, text in conversation]
        assert [name for name in order if "greedy" in name] == [
            f"I am greedy {n}" for n in range(5)
        ]
        assert order.index("I am modest") <= 2, (
            "one waiting client was served behind five of another"
        )
        assert daemon.stop() == 0


def _wait_running(daemon: DaemonProcess, number: int) -> None:
    """Wait until the daemon has taken this many turns in."""
    daemon.wait_log("turn admitted", running=number)


def test_refused_when_the_queue_is_full_or_too_old(tmp_path: Path, model: LoopbackProcess) -> None:
    variables = {
        "MAXD_POOL_MAX_WORKERS": "1",
        "MAXD_POOL_WARM": "sonnet:chat",
        "MAXD_POOL_QUEUE_LENGTH": "2",
        "MAXD_POOL_QUEUE_SECONDS": "1",
    }
    with DaemonProcess(tmp_path, model.base_url, variables) as daemon:
        client = daemon.wait_serving().client()
        daemon.wait_log("worker ready")
        begun = threading.Event()

        def occupy() -> None:
            stream = client.chat.completions.create(
                model="sonnet:chat",
                messages=[{"role": "user", "content": directive(words=200, pace=0.05)}],
                stream=True,
            )
            for _ in stream:
                begun.set()

        def ask(number: int) -> openai.APIStatusError | None:
            try:
                client.chat.completions.create(
                    model="sonnet:chat", messages=[{"role": "user", "content": f"{number}"}]
                )
            except openai.APIStatusError as error:
                return error
            return None

        with ThreadPoolExecutor(8) as threads:
            running = threads.submit(occupy)
            assert begun.wait(30)
            refused = list(threads.map(ask, range(6)))
            running.result()
        assert all(isinstance(error, openai.InternalServerError) for error in refused)
        for error in refused:
            assert error is not None
            assert error.status_code == 503
            assert error.code == "overloaded"
            assert 2 <= int(error.response.headers["retry-after"]) <= 10
        client.close()
        assert {"too many" in str(e) for e in refused} == {True, False}, "both reasons were met"
        assert daemon.stop() == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_worker(
    tmp_path: Path, model: LoopbackProcess, stream: bool
) -> None:
    variables = {"MAXD_POOL_MAX_WORKERS": "1", "MAXD_POOL_WARM": "sonnet:chat"}
    with DaemonProcess(tmp_path, model.base_url, variables) as daemon:
        daemon.wait_serving()
        messages: list[ChatCompletionMessageParam] = [
            {"role": "user", "content": directive(words=1000, pace=0.2)}
        ]
        with daemon.client(timeout=2.0) as hasty:
            if stream:
                hasty.chat.completions.create(
                    model="sonnet:chat", messages=messages, stream=True
                ).close()
            else:
                with pytest.raises(openai.APITimeoutError):
                    hasty.chat.completions.create(model="sonnet:chat", messages=messages)
        daemon.wait_log("turn", outcome="cancelled")
        with daemon.client() as client:
            answer = client.chat.completions.create(
                model="sonnet:chat", messages=[{"role": "user", "content": directive(text="Free")}]
            )
        assert answer.choices[0].message.content == "Free"
        assert daemon.stop() == 0
