"""Listeners: what a session of the application commits is published as events."""

from statsd.client.listeners.sessions import listen

__all__ = ["listen"]
