"""Bringing a successor up to date: the two ends, and how much of a node they may have."""
