"""The benches of `python -m benches.run`: one module each, with `measure(context) -> list[Row]`."""
