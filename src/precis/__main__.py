"""Run the command line: `python -m precis`."""

from precis.cli.app import main

main()
