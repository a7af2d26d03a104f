"""What a process can be asked for in numbers: the catalogue of metrics, and readings of them."""
