"""What the web page of a cluster shows, as plain data: its state now, its last hours, and what changes from one moment to the next."""
