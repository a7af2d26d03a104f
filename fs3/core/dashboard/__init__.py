"""What the web page of a cluster shows, as plain data: its state, its last hours, and what changes from moment to moment."""
