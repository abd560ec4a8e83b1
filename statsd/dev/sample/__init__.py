"""Deterministic sample data."""
