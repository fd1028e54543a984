"""The ONNX runner beside PyTorch on this CPU: seconds and memory of a clip, start-up, size, and which bits differ.

    videoar export videoar-atari outputs/onnx/float32 --onnx           # and --weights float16, int8
    python benchmarks/onnx_runner.py outputs/onnx/float32 outputs/onnx/float16 outputs/onnx/int8

Every timing is a process of its own; seconds are CPU seconds of that process, since a machine may be shared. "Start-up"
goes from the first import to the end of a first clip. The first folder is timed in every setting, beside PyTorch; the
others in the first one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

CHILD = """
import json, resource, sys, time
spec = json.loads(sys.argv[1])
{load}
first = time.process_time()
clips = []
for seed in range(1, 1 + spec["clips"]):
    before = time.process_time()
    make(spec["batch"], seed)
    clips.append((time.process_time() - before) / spec["batch"])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({{"start_up": first, "seconds_a_clip": sorted(clips)[len(clips) // 2], "peak_mb": peak}}))
"""
ONNX = """
sys.path.insert(0, spec["model"])
from runner import Model
model = Model(spec["model"], spec["threads"])
make = lambda n, seed: model.generate([spec["label"]] * n, frames=spec["frames"], seed=seed, guidance=2.0)
make(1, 0)
"""
TORCH = """
import torch
from videoar import generate, load_models
torch.set_num_threads(spec["threads"])
models = load_models(spec["model"])
make = lambda n, seed: generate(*models, [spec["label"]] * n, frames=spec["frames"], seed=seed, guidance=2.0)
make(1, 0)
"""


def measured(load: str, **spec: Any) -> dict[str, float]:
    """What a fresh process says of itself."""
    environment = os.environ | {"OMP_NUM_THREADS": str(spec["threads"]), "MKL_NUM_THREADS": str(spec["threads"])}
    command = [sys.executable, "-c", CHILD.format(load=load), json.dumps(spec)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return {name: round(value, 3) for name, value in json.loads(done.stdout.splitlines()[-1]).items()}


def samples(model: str, label: str, frames: int, seeds: int) -> list[Any]:
    """PyTorch's samples of some seeds."""
    import torch

    from videoar import generate, load_models

    torch.set_num_threads(1)
    models = load_models(model)
    return [generate(*models, [label], frames=frames, seed=seed, guidance=2.0) for seed in range(seeds)]


def compared(expected: list[Any], folder: str, label: str, frames: int) -> dict[str, Any]:
    """Bits of the folder's samples against PyTorch's, of the same seeds."""
    from videoar.serving.runner import Model

    runner = Model(folder, threads=1)
    bits = differing = equal = 0
    first: list[str] = []
    worst = 0.0
    for seed, theirs in enumerate(expected):
        ours = runner.generate([label], frames=frames, seed=seed, guidance=2.0)
        wrong = [(a.numpy() != b) for a, b in zip(theirs.bits, ours.bits)]
        bits += sum(w.size for w in wrong)
        differing += sum(int(w.sum()) for w in wrong)
        places = [(t, k) for t in range(wrong[0].shape[1]) for k, w in enumerate(wrong) if w[:, t].any()]
        equal += not places
        first += [f"seed {seed}: frame {places[0][0]}, scale {places[0][1]}"] if places else []
        if not places:
            worst = max(worst, float(abs(theirs.video.numpy() - ours.video).max()))
    return {
        "samples": len(expected),
        "equal": equal,
        "bits": bits,
        "differing": differing,
        "first": first,
        "pixels": worst,
    }


def size_of(folder: str) -> float:
    """MB on disk."""
    return round(sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6, 2)


def _made_with() -> dict[str, Any]:
    import onnxruntime

    from videoar.provenance import commit, versions

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    return {"commit": commit(), "cpu": cpu, "versions": versions() | {"onnxruntime": onnxruntime.__version__}}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", help="made by `videoar export MODEL FOLDER --onnx`")
    parser.add_argument("--model", default="videoar-atari", help="the model they were made of")
    parser.add_argument("--label", default="0")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--clips", type=int, default=3, help="timed clips (median)")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2], help="none: only compare bits")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seeds", type=int, default=4, help="samples whose bits are compared")
    parser.add_argument("--out", default="benchmarks/results/onnx")
    args = parser.parse_args(arguments)
    result: dict[str, Any] = {"command": " ".join(["python", *sys.argv]), **_made_with(), "rows": []}
    for threads in args.threads:
        for batch in args.batches:
            spec = {"label": args.label, "frames": args.frames, "clips": args.clips, "threads": threads, "batch": batch}
            others = args.folders[1:] if not result["rows"] else []
            for folder in [None, args.folders[0], *others]:
                row = measured(ONNX, model=folder, **spec) if folder else measured(TORCH, model=args.model, **spec)
                name = Path(folder).name if folder else "PyTorch"
                result["rows"].append({"what": name, "threads": threads, "batch": batch, **row})
                print(result["rows"][-1], flush=True)
                _write(args.out, result)  # at once: a run that is ended keeps what it has measured
    result["size_mb"] = {Path(folder).name: size_of(folder) for folder in args.folders}
    expected = samples(args.model, args.label, args.frames, args.seeds)
    result["bits"] = {Path(f).name: compared(expected, f, args.label, args.frames) for f in args.folders}
    print(json.dumps(result["bits"], indent=2), result["size_mb"])
    print(f"wrote {_write(args.out, result)}")
    return 0


def _write(out: str, result: dict[str, Any]) -> Path:
    place = Path(out) / "runner.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(result, indent=2) + "\n")
    return place


if __name__ == "__main__":
    sys.exit(main())
