"""HTTP, for what reads along: metrics."""
