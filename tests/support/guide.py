"""The steps of a guide: blocks of code, each after a line that names the file and what to do."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

STEP = re.compile(
    r"^(?P<verb>Create|In) `(?P<file>[^`]+)`(?:, add to (?P<where>[^:]+))?:\n\n"
    r"```\w+\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
PLACES = (
    # what a step says, and the line after which its block goes, with the place's name
    (r"`(\w+)`", r"^{name}\b.*\($"),
    (r"the import of `([\w.]+)`", r"^from {name} import \($"),
    (r"the table of `([^`]+)`", r"^{name}\n(?:(?!\|).*\n)*(?:\|.*\n)*\|.*$"),
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
        [end] = [found.end() for found in re.finditer(self._place(), page, re.MULTILINE)]
        path.write_text(page[:end] + "\n" + self.text.rstrip("\n") + page[end:])

    def _place(self) -> str:
        for said, line in PLACES:
            if found := re.fullmatch(said, self.where or ""):
                return line.format(name=re.escape(found[1]))
        raise AssertionError(f"a step says where in another way: {self.where}")


def steps_of(guide: str) -> Iterator[Step]:
    for found in STEP.finditer(guide):
        assert (found["verb"] == "Create") == (found["where"] is None)
        yield Step(found["file"], found["where"], found["text"])
