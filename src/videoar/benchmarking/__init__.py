"""How fast models and data run here, beside what the machine can reach.

setting (the clip and the models) → suites, sampling (the cases) → timing (seconds of a call), memory (its peak) →
measure (a case's figure, the table, the JSON) → run. From Python: `videoar.benchmarking.run.run_benchmark(Setting(…))`.
"""
