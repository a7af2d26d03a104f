"""Other systems that do the same on this machine in the same run, a module for each: what it needs, what it acknowledges.

One that is not installed is left out of the rows.
"""
