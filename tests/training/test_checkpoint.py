"""Checkpoint files: whole or absent, plain data, a way back, and what becomes of them when exported."""

import logging
import resource
from datetime import timedelta

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from videoar.errors import UserError
from videoar.files import remove_partial
from videoar.tokenizer.model import VideoTokenizer
from videoar.training.checkpoint import export, load_models, load_tokenizer, newest_in, read_checkpoint
from videoar.training.checkpoint_io import SafeCheckpointIO
from videoar.training.tokenizer_module import TokenizerModule


@pytest.fixture
def run(fit, clips, tokenizer_module, tmp_path):
    """A short run with perceptual loss and all; returns (module, checkpoint)."""
    module = tokenizer_module({"perceptual": 1.0, "perceptual_net": "multiscale_gradient", "lecam": 0.1})
    trainer = fit(module, clips(3, size=32))
    path = tmp_path / "run" / "last.ckpt"
    trainer.save_checkpoint(path)
    return module, path


def test_loads_with_no_other_argument(run):
    module, path = run
    again = TokenizerModule.load_from_checkpoint(path)
    for name, value in module.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert again.batches_seen == 3 and again.losses == module.losses and again.optim == module.optim
    assert torch.equal(again.ema.weights["encoder.conv_in.weight"], module.ema.weights["encoder.conv_in.weight"])


def test_is_plain_data_that_says_what_it_is(run):
    content = torch.load(run[1], weights_only=True)
    assert content["videoar"]["kind"] == "tokenizer" and content["videoar"]["batches_seen"] == 3
    assert content["tokenizer_config"]["latent_dim"] == 8
    assert content["hyper_parameters"]["losses"]["perceptual_net"] == "multiscale_gradient"
    assert {key.split(".")[0] for key in content["state_dict"]} == {"tokenizer", "discriminator", "objective"}
    assert not any("perceptual" in key for key in content["state_dict"])


def test_tokenizer_is_the_averaged_one_by_default(run):
    module, path = run
    averaged, own = load_tokenizer(path), load_tokenizer(path, ema=False)
    assert torch.equal(averaged.encoder.conv_in.weight, module.ema.weights["encoder.conv_in.weight"])
    assert torch.equal(own.encoder.conv_in.weight, module.tokenizer.encoder.conv_in.weight)
    assert not averaged.training and not any(p.requires_grad for p in averaged.parameters())


def test_export_is_the_same_tokenizer_in_plain_pytorch(run, tmp_path):
    out = export(run[1], tmp_path / "out")
    assert VideoTokenizer.from_pretrained(out).fingerprint() == load_tokenizer(run[1]).fingerprint()
    assert load_tokenizer(out).fingerprint() == load_tokenizer(run[1]).fingerprint()
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []
    with pytest.raises(UserError, match="exists already"):
        export(run[1], out)
    export(run[1], out, ema=False, overwrite=True)
    assert VideoTokenizer.from_pretrained(out).fingerprint() == load_tokenizer(run[1], ema=False).fingerprint()
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match="no exported model"):
        export(run[1], tmp_path / "photos", overwrite=True)


def test_training_starts_from_an_exported_tokenizer(run, tmp_path, tokenizer_module):
    out = export(run[1], tmp_path / "out")
    module = TokenizerModule(init_from=str(out), losses={"gan": 0.0, "perceptual": 0.0})
    assert module.tokenizer.fingerprint() == load_tokenizer(run[1]).fingerprint()
    assert module.tokenizer.training and all(p.requires_grad for p in module.tokenizer.parameters())
    with pytest.raises(UserError, match="does not fit"):
        TokenizerModule("debug", init_from=str(out), losses={"gan": 0.0, "perceptual": 0.0})


def test_resuming_with_another_config_names_the_difference(run, fit, clips):
    config = {"latent_dim": 4, "channels": 8, "multipliers": (1, 1, 2), "res_blocks": 1, "norm_groups": 4}
    other = TokenizerModule(config, losses={"gan": 0.0, "perceptual": 0.0})
    with pytest.raises(UserError, match="latent_dim 8 is now 4"):
        fit(other, clips(1), ckpt_path=run[1])


def test_a_truncated_checkpoint_falls_back_to_the_one_before(run, caplog):
    _, path = run
    earlier = path.with_name("step=2.ckpt")
    earlier.write_bytes(path.read_bytes())
    path.write_bytes(path.read_bytes()[:-2000])
    with caplog.at_level(logging.WARNING):
        content = SafeCheckpointIO().load_checkpoint(path)
    assert content["videoar"]["batches_seen"] == 3
    assert "last.ckpt is truncated" in caplog.text and "going back to" in caplog.text and "step=2.ckpt" in caplog.text
    earlier.write_bytes(b"")
    with pytest.raises(UserError, match=r"last\.ckpt is truncated"):
        SafeCheckpointIO().load_checkpoint(path)


def test_what_a_killed_writer_left_is_no_checkpoint(tmp_path, caplog):
    io, path = SafeCheckpointIO(), tmp_path / "last.ckpt"
    io.save_checkpoint({"state_dict": {"w": torch.ones(3)}}, path)
    left = tmp_path / ".step=9.123.part.ckpt"
    left.write_bytes(path.read_bytes()[:100])
    assert newest_in(tmp_path) == path
    remove_partial(tmp_path)
    assert not left.exists() and path.exists()


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path):
    path, io = tmp_path / "last.ckpt", SafeCheckpointIO()
    io.save_checkpoint({"state_dict": {"w": torch.ones(3)}}, path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))  # no file of this process may grow beyond 64 KiB
    try:
        with pytest.raises(UserError, match=r"cannot write .*last\.ckpt: File too large; what was there before"):
            io.save_checkpoint({"state_dict": {"w": torch.ones(2**20)}}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_checkpoint(path)["state_dict"]["w"].sum() == 3
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("loader", [load_tokenizer, load_models])
def test_bad_paths_are_one_clear_error(tmp_path, loader):
    with pytest.raises(UserError, match="nowhere"):
        loader(tmp_path / "nowhere")
    torch.save({"weights": torch.ones(1)}, tmp_path / "foreign.ckpt")
    with pytest.raises(UserError, match="no state_dict"):
        loader(tmp_path / "foreign.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "lightning.ckpt")
    with pytest.raises(UserError, match="not a checkpoint of videoar"):
        loader(tmp_path / "lightning.ckpt")


def test_a_tokenizers_run_holds_no_generator(run):
    with pytest.raises(UserError, match="checkpoint of a tokenizer"):
        load_models(run[1])


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"state_dict": {}, "x": Payload()}, tmp_path / "evil.ckpt")
    with pytest.raises(UserError, match="no torch file of plain data"):
        read_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("seconds", "saved"), [(0, 3), (1000, 0)])
def test_checkpoints_by_time(fit, clips, tokenizer_module, tmp_path, seconds, saved):
    keep = ModelCheckpoint(tmp_path / "run", train_time_interval=timedelta(seconds=seconds), save_top_k=-1)
    fit(tokenizer_module(), clips(3), callbacks=[keep], enable_checkpointing=True)
    assert len(list((tmp_path / "run").glob("*.ckpt"))) == saved
