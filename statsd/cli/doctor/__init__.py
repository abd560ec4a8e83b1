"""`statsd doctor`: checks of the whole installation."""
