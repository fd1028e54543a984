"""Latent <-> bits <-> tokens. No parameters, so every function here has an exact test."""
