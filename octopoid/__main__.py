"""`python -m octopoid`."""

from octopoid.cli.app import main

if __name__ == "__main__":
    main()
