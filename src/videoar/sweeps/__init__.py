"""A YAML → many runs → one table: spec (YAML → children), run (all), child (one), launch, collect, report, show.

From Python: `videoar.sweeps.run.run_sweep("configs/sweeps/debug.yaml")`.
"""
