"""What benches of a full KVCache share: pages whose bytes follow from their keys, and processes that put them."""
