"""`python -m statsd.dev.sample`: load a small sample into an empty DATABASE_URL."""

from statsd.dev.sample.load import main

main()
