"""GeneratorModule: its lessons, its frozen tokenizer, its classes, and what its checkpoint carries."""

import math

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from videoar.errors import UserError
from videoar.generator.model import GeneratorConfig
from videoar.sampling.generate import generate
from videoar.tokenizer.model import TokenizerConfig, VideoTokenizer
from videoar.training.base import LoopConfig
from videoar.training.checkpoint import export, load_models
from videoar.training.generator_module import CorruptionConfig, GeneratorModule, TeachingConfig
from videoar.training.optim import OptimConfig

NAMES = ("pong", "breakout")


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory):
    """A saved tokenizer with random weights: any fixed map from pixels to bits will do."""
    torch.manual_seed(0)
    config = TokenizerConfig(latent_dim=8, channels=8, multipliers=(1, 1, 2), res_blocks=1, norm_groups=4)
    folder = tmp_path_factory.mktemp("models") / "tokenizer"
    VideoTokenizer(config).save_pretrained(folder)
    return folder


@pytest.fixture
def module(tokenizer_dir):
    """Makes a tiny GeneratorModule, the same weights every time."""

    def make(
        generator=None, tokenizer=tokenizer_dir, init_from=None, follow=False, corruption=None, teaching=None, **loop
    ):
        torch.manual_seed(0)
        small = {"latent_dim": 8, "width": 32, "depth": 2, "heads": 2, "num_classes": 2}
        config = None if generator == "inherit" else GeneratorConfig(**(small | (generator or {})))
        return GeneratorModule(
            config,
            tokenizer=str(tokenizer) if tokenizer else None,
            init_from=str(init_from) if init_from else None,
            follow_tokenizer=follow,
            corruption=CorruptionConfig(**(corruption or {})),
            teaching=TeachingConfig(**(teaching or {})),
            optim=OptimConfig(lr=3e-3, schedule="constant"),
            loop=LoopConfig(**loop),
        )

    return make


def test_learns_one_batch(fit, clips, module):
    trained = module(corruption={"mode": "off"}, teaching={"condition_drop": 0.0})
    batch = clips(1)[0]
    first = fit(trained, [batch]).callback_metrics["train/loss"]
    last = fit(trained, [batch] * 60).callback_metrics
    assert first == pytest.approx(math.log(2), abs=0.05)
    assert last["train/loss"] < 0.5 * first and last["train/accuracy"] > 0.85


def test_learns_without_conditions(fit, clips, module):
    """Labels and captions of the data change nothing, and every parameter is used."""
    batch = clips(1)[0]
    other = batch | {"label": torch.tensor([-1, -1]), "caption": ["", ""]}
    last = []
    for one in (batch, other):
        trained = module({"condition": "none"}, corruption={"mode": "off"})
        last.append(fit(trained, [one] * 20).callback_metrics["train/loss"])
    assert last[0] == last[1] < 0.65
    assert trained.network.config.condition == "none" and not list(trained.network.encode_condition.parameters())
    with pytest.raises(UserError, match="unconditional: it takes None for each sample"):
        trained.network.condition([0, 1])


def test_raster_order_learns_and_is_sampled_from_its_checkpoint(fit, clips, module, tmp_path):
    """The baseline needs no more than a tokenizer of one scale, `order: raster` and no corruption."""
    config = TokenizerConfig(8, 8, (1, 1, 2), res_blocks=1, norm_groups=4, scales=[4])
    VideoTokenizer(config).save_pretrained(tmp_path / "single")
    settings = {"tokenizer": tmp_path / "single", "teaching": {"condition_drop": 0.0}}
    batch = clips(1)[0]
    trained = module({"order": "raster"}, corruption={"mode": "off"}, **settings)
    trainer = fit(trained, [batch] * 60)
    assert trainer.callback_metrics["train/loss"] < 0.6 * math.log(2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    sample = generate(*load_models(tmp_path / "last.ckpt"), [0], frames=5, size=(16, 16), seed=0)
    assert sample.steps == 2 * 16
    with pytest.raises(UserError, match=r"corruption\.mode off, not inheritance"):
        fit(module({"order": "raster"}, **settings), [batch])
    with pytest.raises(UserError, match="this pyramid has 4 scales"):
        fit(module({"order": "raster"}, corruption={"mode": "off"}), [batch])


def test_logs_loss_and_accuracy_by_scale_and_by_frame(fit, clips, module, list_data):
    batches = clips(2)
    metrics = fit(module(), list_data(batches, val=batches, class_names=NAMES)).callback_metrics
    for split in ("train", "val"):
        wanted = ["loss", "accuracy", "loss/scale_01", "accuracy/scale_04", "loss/frame_01", "accuracy/frame_00"]
        assert {f"{split}/{name}" for name in wanted} <= set(metrics)
    assert "train/grad_norm" in metrics and "train/lr" in metrics


def test_cached_latents_train_exactly_like_pixels(fit, clips, module):
    from_pixels = module(corruption={"mode": "inheritance"})
    batches = clips(2)
    fit(from_pixels, batches)
    cached = [{**batch, "latent": from_pixels.tokenizer.encode(batch["video"])} for batch in batches]
    for batch in cached:
        del batch["video"]
    from_latents = module(corruption={"mode": "inheritance"})
    fit(from_latents, cached)
    for a, b in zip(from_pixels.network.parameters(), from_latents.network.parameters()):
        assert torch.equal(a, b)


def test_every_draw_is_fixed_by_seed_batch_and_rank(fit, clips, module):
    base = module(seed=3)
    fit(base, clips(1))
    draws = {}
    for seed, seen in ((3, 0), (3, 1), (4, 0)):
        base.loop.seed, base.batches_seen = seed, seen
        draws[seed, seen] = torch.rand(8, generator=base.rng())
        assert torch.equal(draws[seed, seen], torch.rand(8, generator=base.rng()))
    assert len({tuple(d.tolist()) for d in draws.values()}) == 3


def test_corruption_mask_and_dropped_conditions_change_the_lesson(fit, clips, module):
    batches, losses = clips(1, frames=9), []
    for options in (
        {"corruption": {"mode": "off"}, "teaching": {"condition_drop": 0.0}},
        {"corruption": {"mode": "inheritance"}, "teaching": {"condition_drop": 0.0}},
        {"corruption": {"mode": "off"}, "teaching": {"condition_drop": 1.0}},
        {"corruption": {"mode": "off"}, "teaching": {"condition_drop": 0.0, "frame_mask": 1.0}},
    ):
        losses.append(fit(module(**options), batches).callback_metrics["train/loss"].item())
    assert len(set(losses)) == 4


def test_classes_come_from_the_data(fit, clips, module, list_data):
    named = module({"num_classes": 7})
    fit(named, list_data(clips(1), class_names=NAMES))
    assert named.network.config.class_names == NAMES and named.network.config.num_classes == 2
    other = module({"class_names": ("a", "b")})
    with pytest.raises(UserError, match=r"2 classes \(a, b, …\).*pong"):
        fit(other, list_data(clips(1), class_names=NAMES))


def test_a_label_out_of_range_is_named(fit, clips, module):
    batch = clips(1)[0]
    batch["label"][0] = 5
    with pytest.raises(UserError, match="label 5"):
        fit(module(), [batch])


def test_unlabelled_clips_have_the_null_condition(fit, clips, module):
    fitted = module(teaching={"condition_drop": 0.0})
    fit(fitted, clips(1))
    batch = {"label": torch.tensor([-1, 1])}
    condition = fitted._condition(batch, 0.0, None)
    assert torch.equal(condition.pooled[0], fitted.network.null(1).pooled[0])
    assert torch.equal(condition.pooled[1], fitted.network.condition(torch.tensor([1])).pooled[0])


def test_captions_of_any_length_and_none(fit, clips, module):
    batch = clips(1)[0]
    batch["caption"] = ["a ball", ""]
    fitted = module({"condition": "bytes"}, teaching={"condition_drop": 0.0})
    assert fit(fitted, [batch]).callback_metrics["train/loss"].isfinite()
    condition = fitted._condition(batch, 0.0, None)
    assert condition.lengths.tolist() == [6, 1]


def test_checkpoint_needs_nothing_else(fit, clips, module, list_data, tmp_path, tokenizer_dir):
    trained = module()
    trainer = fit(trained, list_data(clips(3, size=32), class_names=NAMES))
    path = tmp_path / "run.ckpt"
    trainer.save_checkpoint(path)
    tokenizer_dir.rename(tokenizer_dir.with_name("gone"))
    try:
        again = GeneratorModule.load_from_checkpoint(path)
        generator, tokenizer = load_models(path)
    finally:
        tokenizer_dir.with_name("gone").rename(tokenizer_dir)
    assert again.network.config.class_names == NAMES and again.batches_seen == 3
    assert generator.config.size == (32, 32)
    assert generator.config.tokenizer_fingerprint == tokenizer.encoder_fingerprint()
    assert torch.equal(again.network.embed.weight, trained.network.embed.weight)
    assert torch.equal(generator.embed.weight, trained.ema.weights["embed.weight"])
    own, _ = load_models(path, ema=False)
    assert torch.equal(own.embed.weight, trained.network.embed.weight)
    stored = torch.load(path, weights_only=True)
    assert all(key.startswith("generator.") for key in stored["state_dict"])  # the tokenizer is not among them


def test_export_takes_the_tokenizer_with_a_better_decoder(fit, clips, module, list_data, tmp_path):
    trained = module()
    path = tmp_path / "run.ckpt"
    fit(trained, list_data(clips(1, size=32), class_names=NAMES)).save_checkpoint(path)
    coder = trained.tokenizer
    with torch.no_grad():
        coder.decoder.conv_out.bias += 1
    coder.save_pretrained(tmp_path / "better")
    out = export(path, tmp_path / "out", dtype=torch.bfloat16, tokenizer=tmp_path / "better")
    found = load_models(out)[1]
    torch.testing.assert_close(found.decoder.conv_out.bias, coder.decoder.conv_out.bias.bfloat16().float())
    with torch.no_grad():
        coder.encoder.conv_in.bias += 1
    coder.save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match="their bits mean different things"):
        export(path, tmp_path / "out2", tokenizer=tmp_path / "other")
    assert not (tmp_path / "out2").exists()


def test_frozen_tokenizer_stays_as_it_is(fit, clips, module):
    trained = module()
    fit(trained, clips(1))
    before = trained.tokenizer.fingerprint()
    fit(trained, clips(2))
    assert trained.tokenizer.fingerprint() == before
    assert not any(p.requires_grad for p in trained.tokenizer.parameters())
    assert {id(p) for p in trained.parameters()}.isdisjoint({id(p) for p in trained.tokenizer.parameters()})


def test_stages_chain_across_resolution_and_length(fit, clips, module, tmp_path):
    first = module()
    fit(first, clips(2)).save_checkpoint(tmp_path / "stage1.ckpt")
    second = module("inherit", tokenizer=None, init_from=tmp_path / "stage1.ckpt")
    trainer = fit(second, clips(1, frames=9, size=32))
    assert second.batches_seen == 1 and trainer.callback_metrics["train/loss"].isfinite()
    assert second.network.config.tokenizer_fingerprint == first.network.config.tokenizer_fingerprint
    assert second.tokenizer.fingerprint() == first.tokenizer.fingerprint()
    wider = module({"width": 64}, tokenizer=None, init_from=tmp_path / "stage1.ckpt")
    with pytest.raises(UserError, match="misshapen"):
        wider.configure_model()


def test_a_run_that_names_no_tokenizer_goes_on_with_its_checkpoints(fit, clips, module, tmp_path):
    first = module()
    fit(first, clips(2)).save_checkpoint(tmp_path / "run.ckpt")
    again = module(tokenizer=None)
    fit(again, clips(3), ckpt_path=tmp_path / "run.ckpt", max_epochs=2)
    assert again.batches_seen == 5 and again.tokenizer.fingerprint() == first.tokenizer.fingerprint()
    assert again.network.config == first.network.config


def test_a_foreign_tokenizer_is_refused(fit, clips, module, tmp_path):
    trainer = fit(module(), clips(1))
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    torch.manual_seed(1)
    config = TokenizerConfig(latent_dim=8, channels=8, multipliers=(1, 1, 2), res_blocks=1, norm_groups=4)
    VideoTokenizer(config).save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match="bits mean different things"):
        module("inherit", tokenizer=tmp_path / "other", init_from=tmp_path / "run.ckpt").configure_model()
    with pytest.raises(UserError, match="tokenizer_fingerprint"):
        fit(module(tokenizer=tmp_path / "other"), clips(1), ckpt_path=tmp_path / "run.ckpt")


def test_a_generator_follows_its_tokenizer_when_it_is_told_to(fit, clips, module, tmp_path):
    first = module()
    fit(first, clips(1)).save_checkpoint(tmp_path / "run.ckpt")
    grown = first.tokenizer
    with torch.no_grad():
        grown.encoder.conv_in.bias += 1  # trained on: other bits
    grown.save_pretrained(tmp_path / "grown")
    follow = {"tokenizer": tmp_path / "grown", "init_from": tmp_path / "run.ckpt", "follow": True}
    second = module("inherit", **follow)
    trainer = fit(second, clips(2))
    assert second.network.config.tokenizer_fingerprint == grown.encoder_fingerprint()
    assert first.network.config.tokenizer_fingerprint not in (grown.encoder_fingerprint(), "")
    trainer.save_checkpoint(tmp_path / "run2.ckpt")
    fit(module("inherit", **follow), clips(3), ckpt_path=tmp_path / "run2.ckpt", max_epochs=2)  # and goes on
    wider = TokenizerConfig(latent_dim=12, channels=8, multipliers=(1, 1, 2), res_blocks=1, norm_groups=4)
    VideoTokenizer(wider).save_pretrained(tmp_path / "wider")
    with pytest.raises(UserError, match="8 bits a token, the tokenizer 12"):
        module("inherit", **follow | {"tokenizer": tmp_path / "wider"}).configure_model()
    with pytest.raises(UserError, match="follow_tokenizer"):
        module("inherit", tokenizer=None, init_from=tmp_path / "run.ckpt", follow=True)


def test_missing_tokenizer_and_missing_everything(fit, clips, module):
    with pytest.raises(UserError, match="no tokenizer"):
        fit(module(tokenizer=None), clips(1))
    with pytest.raises(UserError, match="init_from"):
        GeneratorModule()


def test_predict_is_refused_by_the_name_of_what_samples(clips, module, tmp_path):
    trainer = lightning.Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path)
    with pytest.raises(UserError, match="videoar sample"):
        trainer.predict(module(), DataLoader(clips(1), batch_size=None))


def test_probabilities_are_checked():
    with pytest.raises(ValueError, match=r"frame_mask must be a number from 0 to 1, got 1\.5"):
        TeachingConfig(frame_mask=1.5)


@pytest.mark.slow
def test_compiled_blocks_train_like_plain_ones(fit, clips, module, tmp_path):
    """`loop.compile` changes neither the loss nor the keys of the checkpoint."""
    modules, losses = [], []
    for loop in ({}, {"compile": True}):
        modules.append(module({"depth": 1}, **loop))
        losses.append(fit(modules[-1], clips(1)).callback_metrics["train/loss"])
    plain, compiled = modules
    assert losses[1] == pytest.approx(losses[0].item(), rel=1e-4)
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    assert all(block._compiled_call_impl is not None for block in compiled.network.blocks)
