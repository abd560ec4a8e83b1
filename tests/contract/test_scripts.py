"""The scripts: their parts, and the constants that they share with Python."""

import re

import pytest

from statsd import definitions, scripts
from statsd.job import Priority

KINDS = re.compile(r"user_entries|scoreboard|dojo_stats|challenge_solves|crews|belts|reconcile")


def test_constants_of_scripts_are_those_of_python() -> None:
    text = scripts.source("jobs/lease")
    assert f"local RECENT_SOLVES = {definitions.RECENT_SOLVES}\n" in text
    assert f"local BACKGROUND = {int(Priority.BACKGROUND)}\n" in text


@pytest.mark.parametrize("name", list(scripts.every()))
def test_every_part_of_a_script_comes_once_and_after_what_it_includes(name: str) -> None:
    parts = scripts.parts(name)
    assert len(parts) == len(set(parts))
    assert parts[-1] == name
    for number, part in enumerate(parts):
        included = re.findall(r"^-- include (\S+)$", scripts.text(part), re.MULTILINE)
        assert set(included) <= set(parts[:number])


@pytest.mark.parametrize("name", [each for each in scripts.every() if each.startswith("jobs/")])
def test_the_scripts_of_the_queue_name_no_kind_of_job(name: str) -> None:
    own = [part for part in scripts.parts(name) if part.startswith("jobs/")]
    code = re.sub(r"--.*", "", "".join(map(scripts.text, own)))
    assert not KINDS.findall(code)
