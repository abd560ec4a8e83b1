"""Addresses of servers: parsed and checked before anything connects, for both halves."""
