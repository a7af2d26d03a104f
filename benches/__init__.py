"""Benchmarks of fs3: each one drives the file system the way a real consumer does, and measures it."""
