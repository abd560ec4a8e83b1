"""Write the generated parts of `docs/architecture.md`: `python -m statsd.dev.docs`.

A generated part stands between two comments, `<!-- NAME -->` and `<!-- /NAME -->`. `PARTS` has a
function for each name.
"""

import ast
import itertools
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from statsd.boards import follow_ups
from statsd.errors import StatsdError
from statsd.handlers.effects import event_table

PACKAGE = Path(__file__).parents[1]
PAGE = PACKAGE.parent / "docs" / "architecture.md"

_END_OF_SENTENCE = re.compile(r"(?<=[.!?])\s")


class MissingPartError(StatsdError):
    """The page has no place for a generated part."""


def module_map() -> str:
    """Return one row for each module and script of the package, as an indented tree.

    A row has the first sentence of the module's docstring, or of the script's leading comment.
    """
    rows = [(_label(source), summary(source)) for source in sources()]
    width = max(len(label) for label, _ in rows)
    lines = [f"{label:{width}}  {sentence}" for label, sentence in rows]
    return "\n".join(["```text", *lines, "```"])


def sources() -> list[Path]:
    """Return all modules and scripts of the package, in the order of the map."""
    return list(_in_order(PACKAGE))


def summary(source: Path) -> str:
    """Return the first sentence of a docstring or leading comment; empty where there is none."""
    text = source.read_text()
    if source.suffix == ".py":
        described = ast.get_docstring(ast.parse(text)) or ""
    else:
        described = _leading_comment(text)
    paragraph = " ".join(described.split("\n\n")[0].split())
    return _END_OF_SENTENCE.split(paragraph)[0]


def rewritten(page: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """Return a page with its generated parts made anew. Raises MissingPartError."""
    for name, generate in parts.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, found_start, rest = page.partition(start)
        _, found_end, after = rest.partition(end)
        if not (found_start and found_end):
            raise MissingPartError(f"the page lacks the comments {start.strip()} and {end}")
        page = f"{before}{start}\n{generate()}\n\n{end}{after}"
    return page


PARTS: Mapping[str, Callable[[], str]] = {
    "event table": event_table,
    "follow-up table": follow_ups.table,
    "module map": module_map,
}
"""The generated parts of the page: the name in its comments, and the function that makes it."""


def main() -> None:
    """Write the page, if it has changed, and say so."""
    page = PAGE.read_text()
    new = rewritten(page, PARTS)
    if new != page:
        PAGE.write_text(new)
    sys.stdout.write(f"{PAGE}: {'unchanged' if new == page else 'rewritten'}\n")


def _in_order(package: Path) -> Iterator[Path]:
    """Yield the sources of a package: its modules, its scripts, then its subpackages."""
    yield from sorted(package.glob("*.py"))
    yield from sorted(package.glob("lua/*.lua"))
    for init in sorted(package.glob("*/__init__.py")):
        yield from _in_order(init.parent)


def _label(source: Path) -> str:
    """Return the name of a source below its package, indented."""
    path = source.relative_to(PACKAGE.parent)
    if path.name == "__init__.py":
        depth, name = len(path.parts) - 2, f"{path.parent.name}/"
    elif path.parent.name == "lua":
        depth, name = len(path.parts) - 2, f"lua/{path.name}"
    else:
        depth, name = len(path.parts) - 1, path.name
    return "  " * depth + name


def _leading_comment(script: str) -> str:
    lines = itertools.takewhile(lambda line: line.startswith("-- "), script.splitlines())
    return "\n".join(line.removeprefix("-- ") for line in lines)


if __name__ == "__main__":
    main()
