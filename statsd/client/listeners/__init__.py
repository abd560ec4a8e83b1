"""Listeners: they publish the changes that a session of the application commits."""

from statsd.client.listeners.sessions import listen

__all__ = ["listen"]
