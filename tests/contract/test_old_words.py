"""The identifiers of before decision 27 are gone, in code, scripts, logs, metrics and keys."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
THIS = Path(__file__).relative_to(ROOT)

OLD = {
    "classes": (
        "Refresh Marks Taken Settled Performer Standing Standings Bell FirstOf Sight Vitals Beat"
        " Tally Paging Claims Intake Rotation Auditor Patient TooLateError"
    ),
    "functions and variables": (
        "refresh refreshes owe owed owes _owe owe_later owe_derived settle settled settle_and_take"
        " set_marks marks_of standing standings holdings stamp stamps stamped stamp_of rest_after"
        " rests_until lull patience gate bell rung vitals tally performers performer isolate"
        " cause_of uncovered every_statistic of_solver is_outdone set_aging give_back keep_books"
        " begin_anew facts_of last_words is_doubted"
    ),
    "constants": (
        "HOLDINGS OWNERS COVERED RESTS RUNS LATER LULL PATIENCE HELD DOUBT AGING SETTLED"
        " TOGETHER RANKS"
    ),
    "files": (
        "marks.py gate.py bell.py sight.py beat.py tally.py durations.py overview.py isolate.py"
        " claims.py paging.py performers.py statistics.py standing.py loop_watch.py common.lua"
        " settle.lua take.lua mark.lua ask.lua facts.lua boards.lua intake.lua prepare.lua"
    ),
    "private keys": (
        "internal:mark internal:later internal:holdings internal:owners internal:covered"
        " internal:rests internal:runs internal:aging internal:alive internal:asked"
    ),
    "metrics": (
        "statsd_marks statsd_merged_marks statsd_refreshes statsd_slow_refreshes"
        " statsd_failed_refreshes statsd_dead_refreshes statsd_refresh_seconds"
        " statsd_overview_age_seconds statsd_owed_refreshes statsd_working_refreshes"
        " statsd_later_marks statsd_dead_refreshes_total statsd_slow_refreshes_total"
    ),
    "settings": "STATSD_SLOW_REFRESH slow_refresh",
}
"""What must not occur, as whole words."""

ALLOWED = {
    # Names of Rich's live display, of SQLAlchemy's sessions, and of Grafana's dashboards.
    "refresh": re.compile(r"refresh=|auto_refresh|\.refresh\(|\"refresh\""),
}
HISTORY = ("CHANGELOG.md", "docs/decisions/0027-subpackages-and-words.md")
"""Pages that name old words on purpose; beside them decisions that are superseded."""
TEXTS = {".py", ".lua", ".md", ".yml", ".yaml", ".json", ".toml", ".sh", ".sql", ""}


def pages() -> list[Path]:
    """Return the tracked files in which no old word may occur."""
    command = ["git", "ls-files"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [Path(line) for line in listed.splitlines() if line not in HISTORY]
    existing = [path for path in paths if (ROOT / path).exists()]  # a deletion may be uncommitted
    return [path for path in existing if path.suffix in TEXTS and path != THIS]


@pytest.mark.parametrize("sort", OLD)
def test_no_old_identifier_is_left(sort: str) -> None:
    words = "|".join(map(re.escape, OLD[sort].split()))
    pattern = re.compile(rf"(?<![\w.-])(?:{words})(?![\w-])")
    found = []
    for path in pages():
        text = (ROOT / path).read_text()
        if "docs/decisions" in str(path) and "Superseded" in text:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            match = pattern.search(line)
            allowed = match and ALLOWED.get(match[0])
            if match and not (allowed and allowed.search(line)):
                found.append(f"{path}:{number}: {match[0]}: {line.strip()[:80]}")
    assert not found, "\n".join(found)
