"""Tokens → logits: the block-causal transformer of paper §4.2."""
