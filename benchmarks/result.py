"""Results of benchmarks: figures with floors and aims, as a table and as JSON."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any


def say(line: str) -> None:
    """Print a line of progress to standard error; standard output has the tables only."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Aim:
    """A limit for a figure, or for its ratio to the floor."""

    limit: float
    at_least: bool = False
    of_ratio: bool = False

    def is_met(self, figure: float, ratio: float | None) -> bool:
        """Return whether a figure meets the aim; without a ratio no aim of a ratio is met."""
        found = ratio if self.of_ratio else figure
        if found is None:
            return False
        return found >= self.limit if self.at_least else found <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}{' x' if self.of_ratio else ''}"


@dataclass(frozen=True)
class Result:
    """One figure."""

    measure: str
    name: str
    value: float
    unit: str
    floor: float | None = None
    """The figure of the bare work, in the same unit and the same run."""
    aims: Sequence[Aim] = ()
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The figure as a multiple of its floor."""
        return self.value / self.floor if self.floor else None

    @property
    def is_met(self) -> bool | None:
        """Whether all aims are met; None without aims."""
        return all(aim.is_met(self.value, self.ratio) for aim in self.aims) if self.aims else None

    def as_json(self) -> dict[str, Any]:
        """Return the fields for the JSON, with ratio and verdict."""
        derived = {"ratio": self.ratio, "is_met": self.is_met}
        return asdict(self) | derived | {"aims": [str(aim) for aim in self.aims]}


COLUMNS = ("measure", "figure", "floor", "ratio", "aim", "verdict")


def table(results: Iterable[Result]) -> str:
    """Return results as a Markdown table with aligned columns."""
    rows = [COLUMNS, *(_row(each) for each in results)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _row(found: Result) -> tuple[str, ...]:
    verdict = {True: "met", False: "not met", None: ""}[found.is_met]
    return (
        f"{found.measure}: {found.name}" + (f" ({found.note})" if found.note else ""),
        f"{_number(found.value)} {found.unit}",
        f"{_number(found.floor)} {found.unit}" if found.floor is not None else "",
        f"{found.ratio:.2f} x" if found.ratio is not None else "",
        ", ".join(map(str, found.aims)),
        verdict,
    )


def _number(value: float) -> str:
    """Return a number with three digits, or with all digits before the point."""
    size = abs(value)
    return f"{value:,.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3}f}"  # noqa: PLR2004


def growth(by_scale: Sequence[tuple[str, Sequence[Result]]]) -> str:
    """Return a table of the growth from each scale to the next; empty for one scale."""
    lines = []
    for (small, before), (large, after) in pairwise(by_scale):
        known = {(each.measure, each.name): each for each in before}
        lines += [f"| {small} to {large} | growth |", "|---|---|"]
        for each in after:
            earlier = known.get((each.measure, each.name))
            if earlier and earlier.value:
                grown = each.value / earlier.value
                lines.append(f"| {each.measure}: {each.name}, {each.unit} | {grown:.2f} x |")
        lines.append("")
    return "\n".join(lines)
