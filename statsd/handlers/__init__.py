"""Handlers: the function of each event type. Importing this package registers all of them."""

from statsd.handlers import activity, awards, containers, dojo, scoreboard, scores, solve, user

__all__ = ["activity", "awards", "containers", "dojo", "scoreboard", "scores", "solve", "user"]
