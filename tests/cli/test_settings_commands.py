"""Settings on the command line: the list, the documentation, and errors of wrong values."""

import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from statsd.cli.app import app
from statsd.settings import table
from tests.support.commands import run_with
from tests.support.processes import OUR_VARIABLES

ROOT = Path(__file__).resolve().parents[2]
DATABASE = {"DATABASE_URL": "postgresql://web:secret@db/ctfd"}


def command(*arguments: str, **settings: str) -> tuple[int, str, str]:
    """Run the command line with these settings; return its exit code, output and errors."""
    unset = dict.fromkeys(name for name in os.environ if name.startswith(OUR_VARIABLES))
    result = CliRunner().invoke(app, arguments, env={**unset, **settings})
    return result.exit_code, result.stdout, result.stderr


def test_the_documentation_has_the_table_of_the_command() -> None:
    lines = (ROOT / "docs" / "settings.md").read_text().splitlines()
    assert lines[0] == "# Settings"
    assert command("settings", "--markdown") == (0, table() + "\n", "")
    start = lines.index(table().splitlines()[0])
    assert lines[start : start + len(table().splitlines())] == table().splitlines()


def test_the_command_lists_the_settings_in_force_without_passwords() -> None:
    code, output, errors = command("settings", **DATABASE, STATSD_LEASE="12.5")
    assert (code, errors) == (0, "")
    assert "STATSD_LEASE=12.5 seconds" in output
    assert "DATABASE_URL=postgresql://web:***@db/ctfd" in output


def test_the_command_lists_the_settings_without_a_database_url() -> None:
    for unset in ({}, {"DATABASE_URL": ""}):
        code, output, errors = command("settings", STATSD_LEASE="12.5", **unset)
        assert (code, errors) == (0, "")
        assert "DATABASE_URL=(required, not set)\n" in output
        assert "STATSD_LEASE=12.5 seconds" in output


def test_a_closed_pipe_is_not_reported_as_a_lost_server() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    listed = subprocess.run(
        [sys.executable, "-m", "statsd", "settings"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (listed.returncode, listed.stderr) == (1, "")


def test_wrong_settings_are_reported_without_a_traceback() -> None:
    code, output, errors = run_with({})("run", STATSD_LEASE="long", STATSD_LEASES="12")
    assert (code, output) == (2, "")
    lines = errors.splitlines()
    assert [line.split(":")[0] for line in lines] == ["statsd"] * 3
    assert "STATSD_LEASES is no setting; is STATSD_LEASE meant?" in lines[0]
    assert "DATABASE_URL is not set" in errors
    assert "STATSD_LEASE='long'" in errors
