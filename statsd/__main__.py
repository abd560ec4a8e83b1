"""The entry point of `statsd` and of `python -m statsd`."""

import os
import sys

import statsd.identity  # noqa: F401 - refuses the wrong distribution

STANDARD_ERROR = 2


def main() -> None:
    """Run the command line; exit with a sentence if a library for it is not installed."""
    _open_standard_descriptors()
    try:
        from statsd.cli.app import app  # noqa: PLC0415 - the base install has no command line

        app()
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("statsd"):
            raise
        sys.exit(
            f"statsd: the command line needs {error.name}, which is not installed: "
            "run `pip install 'dojo-statsd[daemon]'`"
        )


def _open_standard_descriptors() -> None:
    """Open those that are closed, so that no connection has their number, and gets the output.

    They are for reading, so that whoever writes still learns that they are closed.
    """
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= STANDARD_ERROR:
        pass
    os.close(descriptor)


if __name__ == "__main__":
    main()
