"""Measures of video quality, each a `torchmetrics.Metric` with streaming sums, and the protocol behind each number."""
