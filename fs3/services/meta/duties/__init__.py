"""What a metadata service does by itself, one file each."""
