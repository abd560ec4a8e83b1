"""Benchmarks, with servers and data of their own; each figure has a floor to compare with."""
