"""`python -m maxd.workers.loopback`: a loopback model in a process of its own."""

import argparse
import signal
import sys
import traceback
from functools import partial
from pathlib import Path

import msgspec
import trio

from maxd.workers.loopback.reply import Reply
from maxd.workers.loopback.server import LoopbackModel, serve_loopback_model


def read_script(path: str) -> list[Reply]:
    """The replies in a file. Raises ArgumentTypeError with the reason if there are none."""
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=list[Reply])
    except (OSError, msgspec.MsgspecError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"{path}: {error}") from None


async def serve(port: int, script: list[Reply]) -> int:
    """Serve until SIGTERM or SIGINT; print the base URL when it can be used. An exit code."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            start = partial(serve_loopback_model, port=port, script=script)
            try:
                model: LoopbackModel = await nursery.start(start)
            except OSError as error:
                print(f"cannot listen on port {port}: {error}", file=sys.stderr)
                return 1
            print(model.base_url, flush=True)
            async for _ in signals:
                break
            nursery.cancel_scope.cancel()
    for failure in model.failures:
        traceback.print_exception(failure)
    return 1 if model.failures else 0


def main(argv: list[str] | None = None) -> int:
    """Run the program. Returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m maxd.workers.loopback",
        description="A scripted Messages API server on 127.0.0.1; prints its base URL.",
    )
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    parser.add_argument(
        "--script",
        type=read_script,
        default=[],
        metavar="FILE.json",
        help="a JSON list of replies, served in order, the last one again and again",
    )
    options = parser.parse_args(argv)
    return trio.run(serve, options.port, options.script)


if __name__ == "__main__":
    sys.exit(main())
