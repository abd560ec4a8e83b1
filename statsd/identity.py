"""Refuse to run half overwritten by the other distribution named `statsd`.

Both install a package of this import name. When both are in one environment the later one
replaces `statsd/__init__.py`, and what is left of ours would fail in strange places. Every
entry point imports this module, which says so in one sentence.
"""

import statsd

if getattr(statsd, "DISTRIBUTION", None) != "dojo-statsd":
    raise ImportError(
        f"the package `statsd` at {getattr(statsd, '__file__', '?')} belongs to another "
        "distribution than dojo-statsd: run `pip uninstall statsd`, then "
        "`pip install --force-reinstall dojo-statsd`"
    )
