"""Runs the command line, as ``howdah`` and as ``python -m howdah``."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line. Its import takes a moment, in which Ctrl-C may come, too."""
    try:
        from howdah.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("howdah: Stopped.\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
