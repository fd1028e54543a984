"""The machine's precision: what torch says of it decides."""

import pytest
import torch

from videoar.training.precision import machine_precision


@pytest.mark.parametrize("amx, avx512, expected", [(0, 0, "32-true"), (1, 0, "bf16-mixed"), (0, 1, "bf16-mixed")])
def test_only_instructions_count(monkeypatch, amx, avx512, expected):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: bool(amx))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bool(avx512))
    assert machine_precision("cpu") == expected


def test_a_gpu_wins_unless_the_cpu_is_asked_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    assert machine_precision("auto") == machine_precision("gpu") == "bf16-mixed"
    assert machine_precision("cpu") == "32-true"


def test_this_machine_has_an_answer():
    assert machine_precision("cpu") in ("bf16-mixed", "32-true")
