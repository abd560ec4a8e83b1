"""The Lua scripts, as the server gets them, pass luacheck; no constant or function is dead."""

import os
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from statsd import scripts

GLOBALS = ("redis", "cmsgpack", "cjson", "struct", "KEYS", "ARGV")
UNUSED = re.compile(r"/([^/]+)\.lua:\d+:\d+: \((?:W211\) unused|W241\)) \w+ '(\w+)'")


def warnings(folder: Path) -> list[str]:
    """Run luacheck on all scripts, each with the files that it includes."""
    luacheck = shutil.which("luacheck")
    if luacheck is None:
        if os.environ.get("CI"):
            pytest.fail("CI runs without luacheck: .ci/run installs it")
        pytest.skip("luacheck is not installed (Debian: lua-check)")
    for name in scripts.every():
        (folder / f"{name.replace('/', '.')}.lua").write_text(scripts.source(name))
    options = ["--std", "lua51", "--no-max-line-length", "--codes", "--formatter", "plain"]
    command = [luacheck, *options, "--read-globals", *GLOBALS, "--", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()


def test_the_scripts_have_no_warnings_and_no_dead_code(tmp_path: Path) -> None:
    found = warnings(tmp_path)
    unused = [match for line in found if (match := UNUSED.search(line))]
    assert len(unused) > 10, "luacheck has run, and files are included for a part of what they have"
    assert [line for line in found if not UNUSED.search(line)] == []

    # A script may leave unused what another one uses. Dead is what every script leaves unused.
    unused_in = defaultdict(set)
    for match in unused:
        unused_in[match[2]].add(match[1])
    texts = {name.replace("/", "."): scripts.source(name) for name in scripts.every()}
    for symbol, without_use in unused_in.items():
        has_it = {name for name, text in texts.items() if re.search(rf"\b{symbol}\b", text)}
        assert has_it - without_use, f"{symbol} is used in no script"
