"""VBench's seven prompt-free quality dimensions as metrics, its totals, and its folder layout for the prompted ones.

Formulas and constants follow VBench (Vchitect/VBench, as of 2025); networks are injected, so the scoring logic is
testable without them. A number made with a substitute network carries the substitute's name (`dimension@substitute`)
and never enters a total.
"""
