"""Is a cluster well, and if not, why: pure functions of what its manager says."""
