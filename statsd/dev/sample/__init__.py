"""Deterministic sample data of a made-up platform."""
