"""The entry point of `statsd` and of `python -m statsd`."""

import sys

import statsd.identity  # noqa: F401 - refuses the wrong distribution


def main() -> None:
    """Run the command line; exit with a sentence if a library for it is not installed."""
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


if __name__ == "__main__":
    main()
