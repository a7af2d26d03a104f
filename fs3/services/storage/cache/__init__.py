"""The KVCache pages of a storage node: their budgets and evictions, at the heads of its chains."""
