"""The steps of a guide: blocks of code, each after a line that names the file and what to do."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

STEP = re.compile(
    r"^(?P<verb>Create|In) `(?P<file>[^`]+)`(?:, add (?P<where>[^:]+))?:\n\n"
    r"```\w+\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
PLACES = (
    # what a step says, and a pattern with the group `lines`: the block goes among these lines, in
    # alphabetical order, or after them
    (r"to `(\w+)`", r"^{name}\b.*\(\n(?P<lines>(?: +.+\n)+)"),
    (r"to the import of `([\w.]+)`", r"^from {name} import \(\n(?P<lines>(?: +.+\n)+)"),
    (r"to the table of `([^`]+)`", r"^{name}\n(?:(?!\|).*\n)*(?P<lines>(?:\|.*\n)+)"),
    (r"before `([^`]+)`", r"(?P<lines>)^{name}"),
)


class Step(NamedTuple):
    file: str
    where: str | None
    """None: the file is created."""
    text: str

    def apply(self, tree: Path) -> None:
        """Do the step in a copy of the repository. Fails where its place is not there once."""
        path = tree / self.file
        if self.where is None:
            assert not path.exists(), f"{self.file} is there already"
            path.write_text(self.text)
            return
        page = path.read_text()
        [found] = re.finditer(self._place(), page, re.MULTILINE)
        lines = found["lines"].splitlines(keepends=True)
        begin, end = found.span("lines")
        if not lines:
            blank = "\n\n" if path.suffix == ".py" else "\n"
            lines = [self.text, blank]
        elif self.where.startswith("to the table"):
            lines.append(self.text)
        else:
            lines = sorted([*lines, self.text])
        path.write_text(page[:begin] + "".join(lines) + page[end:])

    def _place(self) -> str:
        for said, pattern in PLACES:
            if found := re.fullmatch(said, self.where or ""):
                return pattern.replace("{name}", re.escape(found[1]))
        raise AssertionError(f"a step says where in another way: {self.where}")


def steps_of(guide: str) -> Iterator[Step]:
    for found in STEP.finditer(guide):
        assert (found["verb"] == "Create") == (found["where"] is None)
        yield Step(found["file"], found["where"], found["text"])
