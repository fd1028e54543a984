"""Frozen networks that turn a video into one feature vector, for Fréchet distances. None is ever fetched silently."""
