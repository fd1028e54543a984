"""Files <-> pixels: readers, writers, datasets, curricula, the resumable sampler and the DataModule."""
