"""Budgets of KVCache pages on one target: what they take, who may have more, and which go."""
