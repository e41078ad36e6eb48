"""`python -m attnflow` is the command."""

from attnflow.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
