"""Trains convolutions of single frames in bfloat16, as a program: on a CPU with AMX oneDNN's 3D ones end the process.

python single_frames.py
"""

import torch

from videoar.tokenizer.layers import CausalConv3d, Downsample, Upsample

for layer in (CausalConv3d(48, 12, 3), CausalConv3d(12, 48, 3), Downsample(48, 3, True), Upsample(48, 3, True)):
    x = torch.randn(4, layer.in_channels, 1, 32, 32, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        layer(x).float().square().mean().backward()
    assert layer.weight.grad.isfinite().all() and layer.weight.grad.abs().sum() > 0
    assert x.grad.isfinite().all()
print("trained")
