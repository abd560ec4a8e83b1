"""The command `statsd doctor`: its checks, and how it prints what they find."""
