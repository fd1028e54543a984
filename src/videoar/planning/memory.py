"""The table `what fits my GPU`: shipped presets against device sizes, as plain data and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch

from videoar.benchmarking.setting import Setting
from videoar.planning.needs import Need, measured_peak, sampling_need, training_need
from videoar.planning.steps import needs_flex
from videoar.provenance import commit, versions

GB = 1e9
DEVICES = (8, 24, 80, 141)
USABLE = 0.9
"""Share of a device that a step may take; the rest is for kernels' scratch memory, fragments and the context."""
TFLOPS = 100.0
"""Sustained speed of the estimated times."""
SHORT = (17, (128, 128))
PAPER = ("videoar-l", "videoar-xl", "videoar-4b")
Job = tuple[str, str, tuple[int, tuple[int, int]]]
JOBS: list[Job] = [
    ("tokenizer", "atari", SHORT),
    ("tokenizer", "videoar-l", SHORT),
    ("generator", "atari", SHORT),
    *(("generator", preset, SHORT) for preset in PAPER),
    *(("sampling", preset, SHORT) for preset in ("atari", *PAPER)),
]
"""(what, generator's preset, (pixel frames, (height, width))): training of a tokenizer or generator, or sampling."""


KINDS = ("tokenizer", "generator", "sampling")


def plan_memory(
    preset: str | None = None,
    frames: int = 17,
    size: tuple[int, int] = (128, 128),
    what: Sequence[str] = KINDS,
    *,
    measure: bool = False,
    batch: int = 1,
    device: str = "cpu",
    track: Callable[[list[Job]], Iterable[Job]] = iter,
) -> dict[str, Any]:
    """The whole table as plain data; `markdown` makes it text.

    Args:
        preset: of the generator, with its tokenizer; None: the whole shipped table.
        frames, size: the clip, in pixels.
        what: of KINDS.
        measure: also train `batch` clips for two steps on `device`, and put the measured peak beside the computed.
        track: hands on the jobs and may show how far they are, such as `rich.progress.track`.

    Raises:
        UserError: an unknown preset, or a clip that its tokenizer does not take.
    """
    jobs = JOBS if preset is None else [(kind, preset, (frames, size)) for kind in KINDS]
    jobs = [job for job in jobs if job[0] in what]
    computed, checked = list(rows(track(jobs))), []
    if measure:
        names = {name for _, name, _ in jobs} if preset else {"debug", "atari"}
        settings = [setting_of(name, (frames, size), batch, device) for name in sorted(names)]
        kinds = [kind for kind in ("tokenizer", "generator") if kind in what]
        checked = list(checks((kind, setting) for setting in settings for kind in kinds))
    return report(computed, checked)


def setting_of(preset: str, clip: tuple[int, tuple[int, int]], batch: int = 1, device: str = "cpu") -> Setting:
    """The clip and the models of a job."""
    return Setting(preset, torch.device(device), torch.bfloat16, clip[0], clip[1], batch)


def rows(jobs: Iterable[Job]) -> Iterator[dict[str, Any]]:
    """Count job after job; training without and with activation checkpointing."""
    for what, preset, clip in jobs:
        setting = setting_of(preset, clip, device="cuda")
        guidance = "text" if preset == "videoar-4b" else "ucf101"
        for checkpointing in (False,) if what == "sampling" else (False, True):
            if what == "sampling":
                need = sampling_need(setting, guidance)
            else:
                need = training_need(what, setting, checkpointing, flops=not checkpointing)
            yield _row(what, setting, checkpointing, need)


def _row(what: str, s: Setting, checkpointing: bool, need: Need) -> dict[str, Any]:
    name = s.preset if what != "tokenizer" else s.preset.split("-")[0]
    return {
        "what": what,
        "preset": name,
        "clip": [s.frames, *s.size],
        "tokens": s.tokens,
        "checkpointing": checkpointing,
        "attention": "flex" if what == "generator" and needs_flex(s) else "sdpa",
        **asdict(need),
        "per_clip": need.per_clip,
        "peak_of_one_clip": need.peak(1),
        "fits": {str(device): need.fits(USABLE * device * GB) for device in DEVICES},
        "seconds_a_clip": need.flops / (TFLOPS * 1e12),
    }


def checks(jobs: Iterable[tuple[str, Setting]]) -> Iterator[dict[str, Any]]:
    """Computed beside measured: really train on the setting's device."""
    for what, setting in jobs:
        for checkpointing in (False, True):
            state, peak = measured_peak(what, setting, checkpointing)
            need = training_need(what, setting, checkpointing, flops=False)
            yield {
                "what": what,
                "preset": setting.preset,
                "clip": [setting.frames, *setting.size],
                "batch": setting.batch,
                "checkpointing": checkpointing,
                "device": _device_name(setting.device),
                "computed": {"state": need.state, "peak": need.peak(setting.batch)},
                "measured": {"state": state, "peak": peak},
            }


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def report(computed: list[dict[str, Any]], checked: list[dict[str, Any]]) -> dict[str, Any]:
    """Everything as plain data."""
    assumed = {
        "usable_share": USABLE,
        "tflops_of_times": TFLOPS,
        "devices_gb": list(DEVICES),
        "precision": "bf16-mixed",
    }
    return {"versions": versions(), "commit": commit(), "assumed": assumed, "computed": computed, "checked": checked}


def markdown(content: dict[str, Any]) -> str:
    """The tables of a report."""
    lines: list[str] = []
    training = [row for row in content["computed"] if row["what"] != "sampling"]
    sampling = [row for row in content["computed"] if row["what"] == "sampling"]
    if training:
        lines += ["### Training (computed)", "", *_training(training), ""]
    if sampling:
        lines += ["### Sampling (computed)", "", *_sampling(sampling), ""]
    if content["checked"]:
        lines += ["### Computed and measured", "", *_checked(content["checked"]), ""]
    lines.append(f"torch {content['versions']['torch']}, commit {content['commit'][:8]}")
    return "\n".join(lines) + "\n"


def _training(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield (
        "| trained | clip | checkpointing | weights | state GB | + a clip GB | one clip GB |"
        f"{_devices('batch in')} TFLOP a clip | s a clip at {TFLOPS:.0f} TFLOP/s |"
    )
    yield "|---|---|---|--:|--:|--:|--:|" + "--:|" * len(DEVICES) + "--:|--:|"
    for r in rows:
        yield (
            f"| {r['what']} `{r['preset']}` | {_clip(r)} | {'yes' if r['checkpointing'] else 'no'} |"
            f" {r['parameters'] / 1e6:,.0f} M | {r['state'] / GB:.2f} | {r['per_clip'] / GB:.3g} |"
            f" {r['peak_of_one_clip'] / GB:.2f} |{_fits(r)} {_cost(r)}"
        )


def _sampling(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield (
        "| generator | clip | weights GB | + a clip GB | one clip GB |"
        f"{_devices('clips in')} TFLOP a clip | s a clip at {TFLOPS:.0f} TFLOP/s |"
    )
    yield "|---|---|--:|--:|--:|" + "--:|" * len(DEVICES) + "--:|--:|"
    for r in rows:
        yield (
            f"| `{r['preset']}` | {_clip(r)} | {r['state'] / GB:.2f} | {r['per_clip'] / GB:.3g} |"
            f" {r['peak_of_one_clip'] / GB:.2f} |{_fits(r)} {_cost(r)}"
        )


def _checked(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "| trained | clips | checkpointing | device | state: computed, measured GB | peak: computed, measured GB | |"
    yield "|---|---|---|---|--:|--:|--:|"
    for r in rows:
        c, m = r["computed"], r["measured"]
        yield (
            f"| {r['what']} `{r['preset']}` | {r['batch']} x {_clip(r)} | {'yes' if r['checkpointing'] else 'no'} |"
            f" {r['device']} | {c['state'] / GB:.3f}, {m['state'] / GB:.3f} | {c['peak'] / GB:.3f},"
            f" {m['peak'] / GB:.3f} | {100 * (c['peak'] / m['peak'] - 1):+.1f} % |"
        )


def _cost(row: dict[str, Any]) -> str:
    """FLOPs and time; with checkpointing they are not counted, most of a forward pass comes on top."""
    if not row["flops"]:
        return "– | – |"
    return f"{row['flops'] / 1e12:.3g} | {row['seconds_a_clip']:.2g} |"


def _clip(row: dict[str, Any]) -> str:
    return "x".join(map(str, row["clip"])) + (" (flex)" if row.get("attention") == "flex" else "")


def _devices(word: str) -> str:
    return "".join(f" {word} {device} GB |" for device in DEVICES)


def _fits(row: dict[str, Any]) -> str:
    return "".join(f" {row['fits'][str(device)] or '–'} |" for device in DEVICES)
