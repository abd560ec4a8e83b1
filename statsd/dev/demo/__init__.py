"""The demonstration: servers, a daemon, and students who solve challenges."""
