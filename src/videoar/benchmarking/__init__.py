"""What `videoar benchmark` is made of: suites (what is timed) and measure (how, against which ceilings)."""
