"""`make drills`: break things on purpose at a running daemon, and say what survived.

The daemon is `maxd serve` with the real CLI before the loopback model: no account, no internet.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import httpx
import openai
import psutil
from rich.console import Console

from drills import clients, daemon, surroundings, upstream, workers
from drills.drill import Drill
from drills.outcome import NotHere, Outcome, markdown, table
from drills.site import Site

DRILLS: Final = (
    *workers.DRILLS,
    *daemon.DRILLS,
    *surroundings.DRILLS,
    *clients.DRILLS,
    *upstream.DRILLS,
)
# What a daemon or a client may do wrong; anything else is a mistake in a drill, and shown whole.
FAILURES: Final = (AssertionError, openai.APIError, httpx.HTTPError, psutil.Error, OSError)


class Sites:
    """One site at a time: used again by a drill with the same settings, unless it was damaged."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._count = 0
        self._site: Site | None = None
        self._variables: Mapping[str, str] = {}

    def get(self, variables: Mapping[str, str]) -> Site:
        if self._site is None or self._variables != variables:
            self.drop()
            self._count += 1
            root = self._root / str(self._count)
            root.mkdir()
            self._site, self._variables = Site(root, variables), variables
        return self._site

    def drop(self) -> None:
        if self._site is not None:
            self._site.close()
            self._site = None


def run(drill: Drill, sites: Sites, times: int | None = None) -> Outcome:
    """Run `drill`, and the health check each time. A drill that fails ends; its site too."""
    outcome = Outcome(drill.name, drill.what)
    for _ in range(times or drill.times):
        outcome.times += 1
        try:
            site = sites.get(drill.variables)
            drill.run(site, outcome)
            site.check_health(outcome)
        except NotHere as reason:
            outcome.not_here = str(reason)
        except FAILURES as error:
            outcome.breaks(f"{type(error).__name__}: {error}")
        if outcome.broken or outcome.not_here:
            sites.drop()
            break
    return outcome


def main(argv: Sequence[str] | None = None, drills: Sequence[Drill] = DRILLS) -> int:
    """Run the drills. Returns 1 if anything was lost that should not be."""
    options = _parser().parse_args(argv)
    names = {drill.name for drill in drills}
    if unknown := set(options.only) - names:
        print(f"no such drill: {', '.join(sorted(unknown))} (--list)", file=sys.stderr)
        return 2
    if options.list:
        for drill in drills:
            print(f"{drill.name:20} {drill.what}")
        return 0
    chosen = [drill for drill in drills if not options.only or drill.name in options.only]
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="maxd-drills-") as folder:
        sites = Sites(Path(folder))
        try:
            for drill in chosen:
                began = time.monotonic()
                outcomes.append(run(drill, sites, options.times))
                took = time.monotonic() - began
                said = "" if outcomes[-1].as_promised else ": not as promised"
                print(f"  … {drill.name} {took:.0f} s{said}", file=sys.stderr, flush=True)
        finally:
            sites.drop()
    if options.markdown:
        print(markdown(outcomes))
    else:
        Console(width=None if sys.stdout.isatty() else 160).print(table(outcomes))
    for outcome in outcomes:
        if outcome.not_here is not None:
            print(f"{outcome.name}: not run here: {outcome.not_here}")
        for each in outcome.broken:
            print(f"{outcome.name}: {each}")
    return 0 if all(each.not_here or each.as_promised for each in outcomes) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m drills", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="may repeat")
    parser.add_argument("--list", action="store_true", help="the drills, and no more")
    parser.add_argument("--times", type=int, help="how often each; default: what it says itself")
    parser.add_argument("--markdown", action="store_true", help="the table for a document")
    return parser


if __name__ == "__main__":
    sys.exit(main())
