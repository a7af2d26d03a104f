"""Benchmarks of fs3: each drives the file system as a real consumer does, and measures it."""
