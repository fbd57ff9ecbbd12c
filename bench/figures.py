"""From measured values to lines of a table."""

from collections.abc import Iterable, Sequence
from statistics import median

WIDTH = 74


def heading(title: str, *, target: bool = False) -> str:
    """The line above values or ratios."""
    columns = f"{'median':>9}{'min':>9}{'max':>9}"
    return f"\n{title:<{WIDTH}}{columns}" + ("   target" if target else "")


def values(name: str, seconds: Sequence[float]) -> str:
    """A line of times, in milliseconds."""
    return _line(name, [1000 * value for value in seconds], "9.1f")


def ratios(name: str, over: Sequence[float], under: Sequence[float], target: str = "") -> str:
    """A line of the ratios over/under, each of two values measured in the same round."""
    pairs = [a / b for a, b in zip(over, under, strict=True)]
    return _line(name, pairs, "9.2f") + (f"   {target}" if target else "")


def plain(name: str, number: float, target: str = "") -> str:
    """A line of one figure."""
    return f"  {name:<{WIDTH - 2}}{number:9.2f}" + (f"{'':18}   {target}" if target else "")


def _line(name: str, numbers: Iterable[float], form: str) -> str:
    found = list(numbers)
    if not found:
        return f"  {name:<{WIDTH - 2}}{'nothing was measured':>27}"
    shown = (median(found), min(found), max(found))
    return f"  {name:<{WIDTH - 2}}" + "".join(format(number, form) for number in shown)
