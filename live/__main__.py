"""`python -m live`."""

from live.run.cli import main

if __name__ == "__main__":
    main()
