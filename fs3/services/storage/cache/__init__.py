"""What a storage node does for KVCache pages beyond storing them as chunks."""
