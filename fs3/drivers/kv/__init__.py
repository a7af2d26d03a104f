"""What stores behind the KV port have in common."""
