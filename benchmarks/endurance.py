"""What long jobs leave behind: memory, open files and processes of `sample`, `evaluate` and the loader, over time.

    python benchmarks/endurance.py --out benchmarks/results/endurance            # 500 clips, 5,000 steps
    python benchmarks/endurance.py --clips 8 --steps 40                          # a minute: does the script run?

Each job is a process group of its own, watched from outside through /proc: what is counted is that job's session (it,
its loader workers and decoders), never another's. The models are tiny and random: what is looked for is growth, and a
clip of a small model leaves behind what a clip of a large one does. Exits with 1 if a job fails, grows, or leaves a
process.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from videoar.benchmarking.measure import _processor
from videoar.data.files import atomic_path
from videoar.provenance import commit, versions
from videoar.ranges import COUNT, LOADERS, SECONDS

EVERY = 0.25
"""Seconds between two looks at a job."""
GROWTH = 48.0
"""MiB that a job may take more near its end than at half time: what allocators keep is no leak."""
FILES = 8
"""Open files that it may have more."""
SETTLED = 100.0
"""Seconds after which a job no longer only starts."""
PAGE = os.sysconf("SC_PAGE_SIZE") / 2**20
POINTS = 24
"""Of the stored curve."""
Look = tuple[float, float, int, int]
"""Seconds since the start, MiB of memory, open files, processes."""


def members(session: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, *rest = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            if int(rest[2]) == session and state not in "ZX":
                found.append(int(entry.name))
    return found


def look(session: int, since: float) -> Look | None:
    """What the processes of a session hold now; None if they have ended meanwhile."""
    memory, files, processes = 0.0, 0, members(session)
    for pid in processes:
        try:
            memory += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
            files += len(os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            return None
    return (time.monotonic() - since, memory, files, len(processes)) if processes else None


def watch(command: Sequence[str], patience: float) -> tuple[int, list[Look], int, str]:
    """Run a command in a session of its own: exit code, what was seen, processes that it left (now ended), its words.

    After `patience` seconds it is killed, whole.
    """
    with TemporaryDirectory() as folder, (Path(folder) / "said.txt").open("w+") as said:
        start, seen = time.monotonic(), []
        job = subprocess.Popen(command, stdout=said, stderr=said, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            while job.poll() is None and time.monotonic() - start < patience:
                if (now := look(job.pid, start)) is not None:
                    seen.append(now)
                time.sleep(EVERY)
            ended = job.poll() is not None
            time.sleep(EVERY)  # what ends with it may need a moment
            left = members(job.pid) if ended else []
        finally:
            for pid in members(job.pid):
                os.kill(pid, signal.SIGKILL)
        said.seek(0)
        return job.wait() if ended else -signal.SIGALRM, seen, len(left), said.read()


def summary(code: int, seen: list[Look], left: int) -> dict[str, Any]:
    """Figures at half time (everything is imported, every worker has started) and near the end."""
    facts: dict[str, Any] = {"exit_code": code, "seconds": round(seen[-1][0], 1) if seen else 0, "processes_left": left}
    if not seen:
        return facts

    def at(column: int, *share: float) -> float:
        span = [each[column] for each in seen if share[0] <= each[0] / seen[-1][0] <= share[1]]
        return round(median(span or [seen[-1][column]]), 1)

    facts["peak_mib"] = round(max(each[1] for each in seen), 1)
    for column, name in enumerate(("memory_mib", "open_files", "processes"), start=1):
        facts[name] = [at(column, 0.5, 0.65), at(column, 0.8, 0.95)]
    facts["curve"] = [[round(value, 1) for value in each] for each in seen[:: -(-len(seen) // POINTS)]]
    return facts


def faults(facts: dict[str, Any]) -> list[str]:
    """What is wrong with a job. Whether it grows, a job tells that runs for longer than its imports take."""
    found = [f"exit code {facts['exit_code']}"] if facts["exit_code"] else []
    found += [f"{facts['processes_left']} processes left"] if facts["processes_left"] else []
    if facts["seconds"] > SETTLED:
        memory, files = (facts[name][1] - facts[name][0] for name in ("memory_mib", "open_files"))
        found += [f"memory grew by {memory:.0f} MiB"] if memory > GROWTH else []
        found += [f"{files:.0f} more open files"] if files > FILES else []
    return found


def jobs(place: Path, clips: int, steps: int, workers: int) -> dict[str, list[str]]:
    """The three commands, in the order in which they need each other's files."""
    videoar, samples = [sys.executable, "-m", "videoar"], str(place / "samples" / "train" / "a")
    shape = ["--num", str(clips), "--frames", "9", "--size", "32", "--device", "cpu", "--dtype", "float32"]
    metrics = ["--metrics", "psnr,ssim,fvd,drift", "--features", "atari", "--device", "cpu", "--no-cache"]
    load = ["--load", str(place / "samples"), "--steps", str(steps), "--workers", str(workers)]
    return {
        f"sample, {clips} clips": [*videoar, "sample", "--model", str(place / "model"), *shape, "--out", samples],
        f"evaluate, {clips} clips": [*videoar, "evaluate", "--real", samples, "--fake", samples, *metrics],
        f"loader, {steps} steps": [sys.executable, __file__, *load],
    }


def make_model(folder: Path) -> None:
    """A tiny unconditional generator and its tokenizer, with random weights."""
    import torch

    from videoar import GeneratorConfig, TokenizerConfig, VideoAR, VideoTokenizer

    torch.manual_seed(0)
    tokenizer = VideoTokenizer(
        TokenizerConfig(latent_dim=8, channels=8, multipliers=(1, 1, 2), res_blocks=1, norm_groups=4)
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    config = GeneratorConfig(
        8, 32, 1, 2, condition="none", size=(32, 32), tokenizer_fingerprint=tokenizer.fingerprint()
    )
    VideoAR(config).save_pretrained(folder / "generator")


def load(folder: str, steps: int, workers: int) -> int:
    """Take `steps` training batches of the clips of a folder and do nothing with them: what the third job does."""
    from videoar.data.curriculum import Stage
    from videoar.data.datamodule import MixedDataModule
    from videoar.data.loader import Loading

    loading = Loading(workers=workers, epoch_batches=steps)
    data = MixedDataModule(folder, stage=Stage(resolution=32, frames=9, batch_size=4), loading=loading)
    loader = data.train_dataloader()
    clips = sum(len(batch["video"]) for batch in loader)
    loader.close()
    return int(clips != 4 * steps)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the jobs one after the other, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=COUNT, default=500, help="that are sampled, and evaluated (default 500)")
    parser.add_argument("--steps", type=COUNT, default=5_000, help="batches of the loader (default 5000)")
    parser.add_argument("--workers", type=LOADERS, default=2, help="of the loader (default 2)")
    parser.add_argument("--patience", type=SECONDS, default=7_200.0, help="seconds a job may take (default 7200)")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks"))
    parser.add_argument("--load", metavar="FOLDER", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.load:
        return load(args.load, args.steps, args.workers)
    content: dict[str, Any] = {"machine": _processor(), "versions": versions(), "commit": commit(), "jobs": {}}
    bad = []
    with TemporaryDirectory() as folder:
        make_model(Path(folder) / "model")
        for name, command in jobs(Path(folder), args.clips, args.steps, args.workers).items():
            code, seen, left, said = watch(command, args.patience)
            facts = content["jobs"][name] = summary(code, seen, left)
            shown = ", ".join(f"{key} {value}" for key, value in facts.items() if key != "curve")
            print(f"{name}: {shown}", flush=True)
            if wrong := faults(facts):
                bad.append(name)
                print(f"{name}: {'; '.join(wrong)}\n{said[-2000:]}", flush=True)
    with atomic_path(args.out / "endurance.json") as path:
        path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"wrote {args.out / 'endurance.json'}")
    return int(bool(bad))


if __name__ == "__main__":
    raise SystemExit(main())
