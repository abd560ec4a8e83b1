"""Development tools: servers from wheels, sample data, the demonstration."""

MALLOC = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": "131072"}
"""The environment of glibc's allocator for a daemon, as the Dockerfile sets it for the image."""
