"""`statsd`, and `python -m statsd`."""

import sys

import statsd.identity  # noqa: F401 - refuses the wrong distribution


def main() -> None:
    """Run the command line, or say what to install for it."""
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
