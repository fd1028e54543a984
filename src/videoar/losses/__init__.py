"""Losses: every function returns an unweighted scalar; the training modules weigh each of them once."""
