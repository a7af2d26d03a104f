"""Down the chain: what one target sends its successor, from which memory, and whether the successor is there."""
