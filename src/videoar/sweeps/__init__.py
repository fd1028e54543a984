"""What `videoar sweep` is made of: spec (YAML → children), child (one run), launch, collect, report."""
