"""`python -m benches.graysort`."""

from .cli import main

if __name__ == "__main__":  # a spawned worker imports this module under another name
    raise SystemExit(main())
