"""Handlers say what is stale. Importing this package registers all of them."""

from statsd.handlers import dojo, scoreboard, scores, solve, user

__all__ = ["dojo", "scoreboard", "scores", "solve", "user"]
