"""Benchmarks: each starts its own servers, makes its own data and prints ratios to a floor."""
