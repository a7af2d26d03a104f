"""Traces of requests with shared prefixes, and their replay: against policies in memory, and against a cluster."""
