"""Handlers say what is stale. Importing this package registers all of them."""

from statsd.handlers import dojo, solve, user

__all__ = ["dojo", "solve", "user"]
