"""`python -m statsd.dev.sample`: load a small sample into DATABASE_URL, if it has no rows."""

from statsd.dev.sample.load import main

main()
