"""TokenizerModule: what its manual optimisation really does to gradients, weights and counters."""

from dataclasses import replace

import lightning
import pytest
import torch

from videoar import GeneratorConfig, VideoAR
from videoar.errors import UserError
from videoar.motion import moving_mask, moving_share
from videoar.sampling.pairing import check_pair
from videoar.training import skipped
from videoar.training.objective import TokenizerLossConfig
from videoar.training.precision import check_precision
from videoar.training.tokenizer_module import TokenizerModule

GENERATOR = GeneratorConfig(latent_dim=8, width=32, depth=1, heads=2, num_classes=2)


def weights(module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.tokenizer.parameters()])


def test_accumulated_gradient_is_that_of_one_big_batch(fit, gradients, clips, tokenizer_module):
    small = clips(2)
    big = [{key: torch.cat([b[key] for b in small]) for key in ("video", "label")}]
    fit(tokenizer_module(accumulate=2), small)
    fit(tokenizer_module(), big)
    for name in ("VideoTokenizer", "VideoDiscriminator"):
        accumulated, joint = gradients[name]
        torch.testing.assert_close(accumulated, joint, rtol=1e-3, atol=1e-6)


def test_last_window_of_an_epoch_may_be_shorter(fit, gradients, clips, tokenizer_module):
    three = clips(3)
    trainer = fit(tokenizer_module({"gan": 0.0}, {"lr": 0.0}, accumulate=2), three)
    fit(tokenizer_module({"gan": 0.0}, {"lr": 0.0}), three[2:])
    assert trainer.global_step == 2
    torch.testing.assert_close(gradients["VideoTokenizer"][1], gradients["VideoTokenizer"][2])


@pytest.mark.parametrize("limit", [0.01, 0.0])
def test_clipping_holds_for_the_gradient_that_the_optimizer_sees(fit, gradients, limit, clips, tokenizer_module):
    module = tokenizer_module(optim={"clip": limit})
    trainer = fit(module, clips(2))
    for seen in gradients.values():
        norms = [g.norm().item() for g in seen]
        assert len(norms) == 2
        assert max(norms) <= 0.01 + 1e-6 if limit else min(norms) > 0.02
    logged = trainer.callback_metrics["train/grad_norm"].item()  # the norm before clipping
    assert logged > 0.02


@pytest.mark.parametrize("gan, accumulate, steps", [(0.0, 1, 4), (0.1, 1, 4), (0.1, 2, 2)])
def test_counters_do_not_depend_on_the_number_of_optimizers(fit, gan, accumulate, steps, clips, tokenizer_module):
    module = tokenizer_module({"gan": gan}, accumulate=accumulate)
    trainer = fit(module, clips(4))
    assert module.batches_seen == 4
    assert trainer.global_step == steps == module.ema.updates


def test_max_steps_counts_tokenizer_steps(fit, clips, tokenizer_module):
    module = tokenizer_module(optim={"schedule": "cosine"})
    fit(module, clips(8), max_steps=3, max_epochs=-1)
    assert module.batches_seen == 3


def test_learning_rate_of_each_step_is_the_schedules(fit, clips, tokenizer_module):
    module = tokenizer_module(optim={"schedule": "cosine", "warmup": 2, "lr": 0.5})
    seen = []
    original = module._step
    module._step = lambda name, opt, ok: (seen.append((name, opt.param_groups[0]["lr"])), original(name, opt, ok))
    fit(module, clips(4))
    expected = [module.optim.lr_at(b, 4) for b in range(4)]
    assert [lr for name, lr in seen if name == "tokenizer"] == pytest.approx(expected)
    assert [lr for name, lr in seen if name == "discriminator"] == pytest.approx(expected)


@pytest.mark.parametrize("batches, accumulate, steps", [(5, 4, 5), (5, 4, 4), (3, 2, 7), (4, 1, 6)])
def test_the_cosine_ends_with_the_run(fit, batches, accumulate, steps, clips, tokenizer_module):
    """Also where the accumulation window does not divide an epoch: the last step stands at the cosine's end."""
    module = tokenizer_module({"gan": 0.0}, {"schedule": "cosine"}, accumulate=accumulate)
    fit(module, clips(batches), max_steps=steps, max_epochs=-1)
    assert module.run_length() == module.batches_seen


def test_a_broken_step_is_skipped_and_counted(fit, clips, tokenizer_module):
    module = tokenizer_module()
    history, objective = [], module.objective.forward

    def broken_at_one(*inputs):
        history.append(weights(module))
        terms = objective(*inputs)
        return {k: v * (float("nan") if module.batches_seen == 1 else 1) for k, v in terms.items()}

    module.objective.forward = broken_at_one
    trainer = fit(module, clips(3))
    history.append(weights(module))
    assert not torch.equal(history[0], history[1])
    assert torch.equal(history[1], history[2])  # the step of batch 1
    assert not torch.equal(history[2], history[3]) and history[3].isfinite().all()
    assert module.skipped.in_all == {"tokenizer": 1}
    assert trainer.callback_metrics["train/skipped_steps"] == 1


def test_endless_broken_steps_stop_the_run(fit, monkeypatch, clips, tokenizer_module):
    monkeypatch.setattr(skipped, "MAX_SKIPPED", 2)
    module = tokenizer_module({"gan": 0.0})
    module.objective.forward = lambda video, rebuilt, *_: {"reconstruction": rebuilt.mean() * float("inf")}
    with pytest.raises(UserError, match="2 steps of the tokenizer in a row"):
        fit(module, clips(4))


def test_discriminator_waits_for_its_start_and_its_weight_ramps(fit, clips, tokenizer_module):
    module = tokenizer_module({"gan_start": 2, "gan_warmup": 2, "gan": 0.8})
    before = module.discriminator.conv_out.weight.detach().clone()
    trainer = fit(module, clips(2))
    assert torch.equal(before, module.discriminator.conv_out.weight)
    assert "train/discriminator" not in trainer.callback_metrics
    assert [module.losses.weights(b)["gan"] for b in range(5)] == [0, 0, 0.4, 0.8, 0.8]
    fit(module, clips(2))  # batches 2 and 3
    assert not torch.equal(before, module.discriminator.conv_out.weight)


def test_tokenizer_step_leaves_no_gradient_in_the_discriminator(fit, clips, tokenizer_module):
    module = tokenizer_module()
    seen, original = [], module.descend

    def spy(name, loss, network, *rest):
        result = original(name, loss, network, *rest)
        seen.append([p.grad is None for p in module.discriminator.parameters()])
        return result

    module.descend = spy
    fit(module, clips(1), max_steps=1)
    assert all(seen[0])
    assert all(p.requires_grad for p in module.discriminator.parameters())


def test_adaptive_weight_and_r1_enter_the_step(fit, gradients, clips, tokenizer_module):
    fit(tokenizer_module(), clips(1))
    module = tokenizer_module({"adaptive_gan": True, "r1": 10.0, "r1_every": 1, "lecam": 0.1, "entropy": 0.1})
    trainer = fit(module, clips(1))
    for name in ("VideoTokenizer", "VideoDiscriminator"):
        assert not torch.allclose(gradients[name][0], gradients[name][1])
    metrics = trainer.callback_metrics
    assert metrics["train/weight_gan"] != pytest.approx(0.1) and metrics["train/r1"] > 0
    assert module.objective.lecam.updates == 1


def test_images_and_videos_in_one_run_are_logged_as_numbers(fit, clips, tokenizer_module, list_data):
    mixed = [clips(1)[0], clips(1, frames=1)[0], clips(1, frames=9)[0]]
    trainer = fit(tokenizer_module({"entropy": 0.1, "lecam": 0.1}), list_data(mixed, val=mixed))
    metrics = trainer.callback_metrics
    wanted = ["loss", "reconstruction", "commitment", "entropy", "gan", "discriminator", "lecam", "logits_real"]
    wanted += ["logits_fake", "psnr", "temporal_error", "motion_ratio", "lr", "grad_norm", "l1_frame/08"]
    wanted += [f"bit_usage/scale_{k:02}" for k in (1, 2, 3, 4)]
    assert {f"train/{name}" for name in wanted} <= set(metrics)
    assert {"val/psnr", "val/temporal_error", "val/l1_frame/00", "val/bit_usage/scale_04"} <= set(metrics)
    assert all(value.isfinite() for value in metrics.values())


@pytest.mark.parametrize("probability, partial", [(0.0, False), (1.0, True)])
def test_partial_scales_show_the_decoder_fewer_scales(probability, partial, fit, clips, tokenizer_module):
    module = tokenizer_module({"partial_scales": probability})
    shown, original = [], module._shown
    module._shown = lambda latent, codes: shown.append((original(latent, codes), codes.latent)) or shown[-1][0]
    fit(module, clips(2))
    assert [torch.allclose(some, full) for some, full in shown] == [not partial] * 2


def test_validation_uses_the_averaged_weights_and_gives_the_own_back(fit, clips, tokenizer_module, list_data):
    module = tokenizer_module(ema_decay=0.9, optim={"lr": 0.01})
    seen, original = [], module._evaluate
    module._evaluate = lambda split, batch: (seen.append(weights(module)), original(split, batch))
    fit(module, list_data(clips(3), val=clips(1)))
    averaged = torch.cat([module.ema.weights[name].flatten() for name, _ in module.tokenizer.named_parameters()])
    assert torch.equal(seen[0], averaged)
    assert not torch.equal(seen[0], weights(module))


@pytest.mark.slow
def test_overfits_one_clip(fit, clips, tokenizer_module):
    batch = clips(1, batch=1)[0]
    module = tokenizer_module({"gan": 0.0}, {"lr": 3e-3})
    first = fit(module, [batch]).callback_metrics["train/psnr"]
    last = fit(module, [batch] * 120).callback_metrics
    assert last["train/psnr"] > first + 8 and last["train/psnr"] > 20
    assert last["train/motion_ratio"] == pytest.approx(1, abs=0.15)  # a frozen video would be near 0


@pytest.mark.parametrize("scale, match", [(127.5, "from -12"), (float("nan"), "nan")])
def test_pixels_outside_their_range_are_refused(fit, scale, match, clips, tokenizer_module):
    batch = clips(1)[0]
    batch["video"] = batch["video"] * scale
    with pytest.raises(UserError, match=match):
        fit(tokenizer_module(), [batch])


def test_float16_is_refused_before_training():
    with pytest.raises(UserError, match="bf16-mixed"):
        check_precision("16-mixed")
    check_precision("bf16-mixed")


def test_a_start_is_needed():
    from videoar.training.tokenizer_module import TokenizerModule

    with pytest.raises(UserError, match="init_from"):
        TokenizerModule()


def test_a_decoder_trained_alone_leaves_the_bits_and_what_was_learned_of_them(fit, clips, tokenizer_module, tmp_path):
    start = tokenizer_module().tokenizer
    start.save_pretrained(tmp_path)
    module = TokenizerModule(
        init_from=str(tmp_path), train="decoder", losses=TokenizerLossConfig(gan=0.0, perceptual=0.0)
    )
    fit(module, clips(2))
    after = module.tokenizer
    same = {n: torch.equal(v, start.state_dict()[n]) for n, v in after.state_dict().items()}
    assert all(held == name.startswith("encoder.") for name, held in same.items()), same
    assert after.encoder_fingerprint() == start.encoder_fingerprint() and after.fingerprint() != start.fingerprint()

    listener = VideoAR(replace(GENERATOR, tokenizer_fingerprint=start.encoder_fingerprint()))
    check_pair(listener, after)
    with torch.no_grad():
        after.encoder.conv_in.bias += 1
    with pytest.raises(UserError, match="their bits mean different things"):
        check_pair(listener, after)


def test_a_decoder_alone_needs_an_encoder_that_has_learned():
    with pytest.raises(UserError, match="`decoder` with an `init_from`"):
        TokenizerModule("debug", train="decoder")


def test_validation_measures_moving_pixels_by_class(list_data, clips, tokenizer_module, tmp_path):
    """Over the whole set, and with the clips of each class together."""
    module, batches = tokenizer_module(), clips(3)
    data = list_data([], batches, class_names=("pong", "breakout"))
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path)
    logged = trainer.validate(module, data, verbose=False)[0]
    video = torch.cat([batch["video"] for batch in batches])
    with torch.no_grad():
        rebuilt = module.tokenizer.reconstruct(video).float().clamp(-1, 1)
    for label, name in enumerate(data.class_names):
        target, guess = video[label::2], rebuilt[label::2]
        mask = moving_mask(target)
        error = ((guess - target) / 2).square().mean(1)[mask].mean()
        assert logged[f"val/moving_psnr/{name}"] == pytest.approx(-10 * error.log10().item(), rel=1e-4)
        ratio = moving_share(guess).mean() / moving_share(target).mean()
        assert logged[f"val/moving_ratio/{name}"] == pytest.approx(ratio.item(), rel=1e-4)
    for name in ("moving_psnr", "moving_ratio"):
        both = [logged[f"val/{name}/{label}"] for label in data.class_names]
        assert logged[f"val/{name}"] == pytest.approx(sum(both) / 2, rel=1e-4)
    images = list_data([], [{**batch, "video": batch["video"][:, :, :1]} for batch in batches])
    assert "val/moving_psnr" not in trainer.validate(module, images, verbose=False)[0]
