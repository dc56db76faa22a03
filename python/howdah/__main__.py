"""``python -m howdah`` is the command line."""

from howdah.cli import main

main()
