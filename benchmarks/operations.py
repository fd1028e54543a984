"""Operations that a GPU's host launches one by one: per sampling step, per clip, per training step. Needs no GPU.

python benchmarks/operations.py --out benchmarks/results/performance      # about two minutes on one CPU core
python benchmarks/operations.py --tiny                                    # seconds; what the tests run
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from videoar.benchmarking.fakes import fake
from videoar.benchmarking.operations import count_operations, inference_operations
from videoar.benchmarking.setting import Setting
from videoar.files import atomic_path
from videoar.planning.needs import counted
from videoar.planning.steps import RUNS
from videoar.provenance import commit, versions


def training_operations(kind: str, setting: Setting) -> int:
    """Operations of a training step in bf16-mixed on one clip: forward, backward, clipping, AdamW, average."""
    with counted(setting) as (_, own):
        run = RUNS[kind](own, fake, False)
        return count_operations(lambda: run.step(1, lambda phase: None)).total


def main(argv: Sequence[str] | None = None) -> int:
    """Count, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="debug models: does the script run?")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks"), help="folder of operations.json")
    args = parser.parse_args(argv)
    preset, clip = ("debug", (5, (32, 32))) if args.tiny else ("videoar-l", (17, (128, 128)))
    setting = Setting(preset, torch.device("cuda"), torch.bfloat16, *clip)
    found = inference_operations(setting)
    for kind in RUNS:
        found[f"{kind} training step"] = training_operations(kind, setting)
    for name, count in found.items():
        print(f"{name:28} {count:>9,}")
    blocks = setting.generator_config.depth
    content = {"preset": preset, "clip": setting.shapes, "steps": setting.steps, "blocks": blocks, "operations": found}
    with atomic_path(args.out / "operations.json") as path:
        path.write_text(json.dumps(content | {"versions": versions(), "commit": commit()}, indent=1) + "\n")
    print(f"wrote {args.out / 'operations.json'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
