"""Logits → bits → latent → pixels: guidance, the bit draw, and the (frame, scale) loop."""
