"""Real and generated videos → numbers with their protocol card, file by file:

folders (which videos) → clips (which frames, at what size) → sources (batches of clips, pairs, a model's
reconstructions) → evaluate (videoar.metrics over every batch) → report (the numbers and the card) → plots.

protocol: every choice that decides a number. plan: what can be measured, found out first. models: a model measured in
memory. samples, vbench_folder: videos that a model makes for an evaluation. cache: moments of real sets.
"""
