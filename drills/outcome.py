"""What came of a drill, and the table that is printed of all of them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from rich.table import Table

# Of what went wrong; an error may hold the daemon's whole log.
MOST_SHOWN: Final = 2000


class NotHere(Exception):
    """A drill needs something that this machine does not have; the text says what."""


@dataclass
class Outcome:
    """What survived a fault and what was lost, each with how often.

    `lost` is what the documents say is lost: the turn of a worker that was killed, for example,
    as long as its client was told. `broken` is what was lost and should not have been, in words.
    """

    name: str
    what: str
    times: int = 0
    healthy: int = 0
    survived: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    not_here: str | None = None

    def survives(self, what: str, truth: object, detail: object = "") -> None:
        """Count what should have survived; where it has not (`truth` is false), it is broken."""
        self._count(self.survived, what, truth, detail)

    def loses(self, what: str, truth: object, detail: object = "") -> None:
        """Count what is promised to be lost in this way; another way (`truth` false) is broken."""
        self._count(self.lost, what, truth, detail)

    def breaks(self, what: str) -> None:
        self.broken.append(what if len(what) <= MOST_SHOWN else f"{what[:MOST_SHOWN]} …")

    @property
    def as_promised(self) -> bool:
        """Nothing is broken and, where the drill could be run, every health check was passed."""
        return not self.broken and self.healthy == self.times

    def _count(self, counter: Counter[str], what: str, truth: object, detail: object) -> None:
        if truth:
            counter[what] += 1
        else:
            self.breaks(f"not so: {what} ({detail!r})" if detail != "" else f"not so: {what}")


def table(outcomes: Iterable[Outcome]) -> Table:
    """What was tried, how often, what survived, what was lost, and whether that is as promised."""
    made = Table(show_lines=True)
    made.add_column("drill", no_wrap=True)
    made.add_column("what was done")
    made.add_column("times", justify="right")
    made.add_column("survived")
    made.add_column("lost")
    made.add_column("healthy after", justify="right")
    made.add_column("as promised")
    for outcome in outcomes:
        if outcome.not_here is not None:
            made.add_row(outcome.name, outcome.what, "0", "", "", "", "not run here")
            continue
        made.add_row(
            outcome.name,
            outcome.what,
            str(outcome.times),
            _counted(outcome.survived),
            _counted(outcome.lost),
            f"{outcome.healthy}/{outcome.times}",
            "yes" if outcome.as_promised else "NO",
        )
    return made


def markdown(outcomes: Iterable[Outcome]) -> str:
    """The same table for a document."""
    lines = [
        "| drill | what was done | times | survived | lost | healthy after | as promised |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in outcomes:
        if each.not_here is not None:
            lines.append(f"| {each.name} | {each.what} | 0 | | | | not run here |")
            continue
        survived, lost = (_counted(what).replace("\n", "; ") for what in (each.survived, each.lost))
        promised = "yes" if each.as_promised else "**no**"
        lines.append(
            f"| {each.name} | {each.what} | {each.times} | {survived} | {lost} "
            f"| {each.healthy}/{each.times} | {promised} |"
        )
    return "\n".join(lines)


def _counted(counter: Counter[str]) -> str:
    return "\n".join(f"{count}x {what}" for what, count in counter.items())
