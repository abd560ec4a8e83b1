"""All statistics there are. A new one adds its calculator here."""

from typing import Any

from statsd.calculators import Calculator, dojo_stats

CALCULATORS: tuple[Calculator[Any], ...] = (dojo_stats.calculator,)
