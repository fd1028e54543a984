"""`videoar plan`: what is counted on tensors without data is what a real step allocates."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch

from videoar import TokenizerConfig
from videoar.benchmarking.fakes import fake
from videoar.benchmarking.setting import Setting
from videoar.cli import main as cli
from videoar.generator import config as generator_config
from videoar.generator import model as generator_model
from videoar.generator.visibility import SequenceIds, dense_mask
from videoar.planning import cluster, live, memory, needs, steps
from videoar.planning.live import LiveMemory
from videoar.tokenizer import config as tokenizer_config
from videoar.tokenizer.discriminator import DiscriminatorConfig, VideoDiscriminator

CPU = torch.device("cpu")


@pytest.fixture
def small(monkeypatch):
    """A generator whose activations outweigh those of its tokenizer's encoder."""
    shape = {"latent_dim": 8, "width": 96, "depth": 3, "heads": 2, "num_classes": 4}
    monkeypatch.setitem(generator_config.PRESETS, "small", shape)
    thin = TokenizerConfig(8, 8, (1, 1, 1), res_blocks=1, patch=4, norm_groups=4)
    monkeypatch.setitem(tokenizer_config.PRESETS, "small", thin)
    monkeypatch.setattr(needs, "BATCHES", (1, 4))
    critic = partial(VideoDiscriminator, DiscriminatorConfig(channels=16))  # kernels' scratch memory is not counted
    monkeypatch.setattr(steps, "VideoDiscriminator", critic)
    return Setting("small", CPU, torch.bfloat16, frames=5, size=(64, 64), batch=3)


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    reason="this CPU has no bfloat16 instructions: its products take float32 copies that nobody counts",
)
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["generator", "tokenizer"])
def test_counted_memory_is_what_the_allocator_gives_out(small, kind, checkpointing):
    need = needs.training_need(kind, small, checkpointing, flops=False)
    state, peak = needs.measured_peak(kind, small, checkpointing)
    assert need.state == state
    own = 0.1 if kind == "tokenizer" else 0.04  # a CPU's weight gradients of clips take copies in plain memory
    assert need.peak(small.batch) == pytest.approx(peak, rel=own)
    assert peak > 1.5 * state, "else the test would say little about activations"


def test_checkpointing_saves_memory_and_recomputes(small):
    kept, recomputed = (needs.training_need("generator", small, on) for on in (False, True))
    assert recomputed.per_clip < 0.7 * kept.per_clip
    assert 1.2 * kept.flops < recomputed.flops < 4 / 3 * kept.flops


def test_state_is_sixteen_bytes_a_weight_and_the_frozen_tokenizer(small):
    need = needs.training_need("generator", small, False, flops=False)
    with torch.device("meta"):
        tokenizer = small.tokenizer(torch.float32)
    frozen = 4 * sum(p.numel() for p in tokenizer.parameters())
    assert need.state == pytest.approx(16 * need.parameters + frozen, rel=1e-3)
    gradients, autocast = 4 * need.parameters, 2 * need.parameters
    assert gradients < need.update - need.state < gradients + 1.5 * autocast, "AdamW is fused: no copies"


def test_nothing_fake_stays_behind(small):
    needs.training_need("generator", small, False, flops=False)
    assert generator_model._ids.cache_info().currsize == 0
    generator = small.generator(torch.float32)
    tokens = torch.zeros(1, small.pyramid.sequence_length(2), generator.config.context_features)
    assert torch.isfinite(generator(tokens, [0], small.pyramid, 2)).all()


def test_live_memory_follows_storages():
    with LiveMemory() as memory:
        a = torch.zeros(1000)
        view = a[10:]
        b = a * 2
        del b
        assert (memory.live, memory.peak) == (4000, 8000)
        del a
        assert memory.live == 4000, "the view keeps the storage"
        del view
        assert memory.live == 0
        assert memory.restart() == memory.peak == 0


def test_fake_networks_keep_shapes_strides_and_flags():
    with live.counting() as memory:
        layer = fake(lambda: torch.nn.Conv3d(2, 4, 3).to(memory_format=torch.channels_last_3d))
        assert memory.live == 4 * (4 * 2 * 27 + 4)
        assert layer.weight.is_contiguous(memory_format=torch.channels_last_3d)
        assert layer.weight.requires_grad


def test_sampling_is_a_straight_line_in_depth(small):
    short = replace(small, size=(32, 32))
    config = generator_config.GeneratorConfig.preset("small")
    assert needs.sampling_need(short) == needs._sampled(short, config, "ucf101")


def test_visible_share_is_the_masks(small):
    ids = SequenceIds.build(small.pyramid, small.latent_frames, 5)
    expected = dense_mask(ids, ids).float().mean()
    assert needs.visible_share(small, 5) == pytest.approx(float(expected))


def test_fits_is_the_largest_batch():
    need = needs.Need(1, 100, ((1, 150), (4, 300), (32, 3100)), 170, 0)
    assert [need.peak(batch) for batch in (1, 2, 4, 5, 32, 33)] == [170, 200, 300, 400, 3100, 3200]
    for room in (200, 299, 400, 5000):
        batch = need.fits(room)
        assert need.peak(batch) <= room < need.peak(batch + 1)
    assert need.fits(160) == 0


def test_cluster_adds_up():
    need = needs.Need(0, 0, ((1, 10**9), (2, 2 * 10**9)), 0, 10**15)
    asked = cluster.Cluster(preset="videoar-l", frames=17, size=(128, 128), devices=8, batch=2, accumulate=3, steps=100)
    plan = cluster.plan_cluster(asked, need)
    weights = plan["weights"]["all"]
    assert weights == pytest.approx(926e6, rel=0.02)
    assert plan["device_bytes"]["AdamW's two moments, float32, sharded"] == weights
    block, rest = plan["weights"]["block"], plan["weights"]["rest"]
    gathered = plan["device_bytes"]["two gathered blocks, bfloat16, and the rest, float32"]
    assert gathered == 2 * 2 * block + 4 * rest, "FSDP gathers what is outside the blocks in float32"
    assert plan["clips_a_step"] == 48 and plan["tokens_a_step"] == 48 * 650
    assert plan["seconds_a_step"] == pytest.approx(48e15 / (8 * 989e12 * 0.4))
    assert plan["checkpoint_bytes"] > 16 * weights
    more = cluster.plan_cluster(replace(asked, devices=64), need)
    assert more["device_total"] < plan["device_total"]
    assert more["seconds_a_step"] == pytest.approx(plan["seconds_a_step"])
    assert plan["fits"] and not cluster.plan_cluster(replace(asked, memory=4.0), need)["fits"]
    assert "clips a step" in cluster.markdown(plan)


def test_a_plan_from_python(small):
    content = memory.plan_memory("small", 5, (32, 32), ["sampling"], track=reversed)
    (row,) = content["computed"]
    assert row["what"] == "sampling" and row["peak_of_one_clip"] > row["state"] and not content["checked"]
    assert "Sampling (computed)" in memory.markdown(content)


def test_the_command_writes_tables(tmp_path, capsys):
    arguments = ["memory", "--preset", "debug", "--frames", "5", "--size", "32", "--what", "sampling"]
    assert cli.main(["plan", *arguments, "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "memory.json").read_text())
    (row,) = content["computed"]
    assert row["clip"] == [5, 32, 32] and row["fits"]["8"] > row["fits"]["141"] / 25
    assert "| `debug` | 5x32x32 |" in (tmp_path / "memory.md").read_text()
    assert "Sampling (computed)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [["memory", "--preset", "nothing"], ["memory", "--preset", "debug", "--frames", "6"], ["cluster", "--mfu", "2"]],
)
def test_bad_input_is_one_line(arguments, command_line):
    code, err = command_line(["plan", *arguments])
    assert code == 2 and err.count("\n") == 1
