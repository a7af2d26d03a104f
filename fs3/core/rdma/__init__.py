"""One-sided transfers without a device: what was lent, what is being fetched, which addresses suit each other."""
