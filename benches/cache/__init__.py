"""What the benches of a KVCache that is full have in common: pages whose bytes follow from their keys, and processes that put them."""
