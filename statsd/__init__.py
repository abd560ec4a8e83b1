"""Statistics for learning platforms: events in, exact values out.

The web half is `statsd.client`; the daemon is `statsd run`. This is the distribution
`dojo-statsd`, which is unrelated to the metrics protocol of the same name.
"""

__version__ = "0.1.0"

DISTRIBUTION = "dojo-statsd"
