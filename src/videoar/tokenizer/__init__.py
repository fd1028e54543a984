"""Pixels <-> latent: a causal 3D convolutional autoencoder whose latent is quantised to bits (paper §4.1)."""
