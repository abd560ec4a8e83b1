"""The demonstration: servers, a daemon, and simulated students who solve challenges."""
