"""Runs the command `lungwatch` when the package is run as a module."""

from worker.cli.app import main

if __name__ == "__main__":
    main()
