"""Makes the package itself the command `lungwatch`."""

from worker.cli.app import main

if __name__ == "__main__":
    main()
