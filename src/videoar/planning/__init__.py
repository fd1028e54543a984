"""What a run will need, before it runs: live (bytes alive), steps (what is counted), needs, memory, cluster (tables).

From Python: `videoar.planning.memory.plan_memory("videoar-l")`, `videoar.planning.cluster.plan_cluster(Cluster(…))`.
"""
