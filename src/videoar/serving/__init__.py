"""Trained models outside PyTorch: ONNX graphs, and the runner that samples with them."""
