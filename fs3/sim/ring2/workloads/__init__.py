"""What simulated clients do, and what they hold against what they are told."""
