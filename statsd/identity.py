"""Refuse to run where the other distribution named `statsd` has overwritten this one.

Both install a package of this import name. In one environment, the distribution installed later
replaces `statsd/__init__.py`, and our remaining modules would fail with obscure errors. Every
entry point imports this module, which raises one plain sentence instead.
"""

import statsd

if getattr(statsd, "DISTRIBUTION", None) != "dojo-statsd":
    raise ImportError(
        f"the package `statsd` at {getattr(statsd, '__file__', '?')} belongs to another "
        "distribution than dojo-statsd: run `pip uninstall statsd`, then "
        "`pip install --force-reinstall dojo-statsd`"
    )
