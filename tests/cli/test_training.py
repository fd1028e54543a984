"""`videoar fit` and `predict` from YAML to files: one folder a run, overrides that win, latents that train."""

import json

import pytest
import torch
import yaml

from videoar.cli.training import as_list, explain, run
from videoar.data.latents import latent_tokenizer, read_bits, read_latent
from videoar.data.writers import write_mp4
from videoar.errors import UserError
from videoar.training.checkpoint import load_tokenizer
from videoar.training.checkpoint_io import SafeCheckpointIO
from videoar.training.precision import machine_precision

TINY = {"latent_dim": 8, "channels": 8, "multipliers": [1, 1, 2], "res_blocks": 1, "norm_groups": 4}
KEEP = "lightning.pytorch.callbacks.ModelCheckpoint"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Clips of two classes, and a YAML for each module."""
    folder = tmp_path_factory.mktemp("cli")
    rng = torch.Generator().manual_seed(0)
    for i in range(4):
        coarse = torch.randn(1, 3, 5, 4, 4, generator=rng)
        video = torch.nn.functional.interpolate(coarse, (5, 32, 32), mode="trilinear")[0].tanh()
        write_mp4(folder / "clips" / ("pong", "breakout")[i % 2] / f"{i}.mp4", video, fps=8)
    common = {
        "max_steps": 2,
        "max_epochs": -1,
        "accelerator": "cpu",
        "enable_model_summary": False,
        "log_every_n_steps": 1,
    }
    common |= {"num_sanity_val_steps": 0, "limit_val_batches": 0}
    common["callbacks"] = [{"class_path": KEEP, "init_args": {"save_last": True, "every_n_train_steps": 1}}]
    data = {"stage": {"resolution": 16, "frames": 5, "batch_size": 2}, "loading": {"workers": 0}}
    losses = {"perceptual": 0.0, "gan": 0.0}
    tokenizer = {"tokenizer": TINY, "losses": losses, "optim": {"lr": 1e-3}}
    generator = {"generator": {"latent_dim": 8, "width": 32, "depth": 1, "heads": 2}}
    for name, kind, args in (("t", "TokenizerModule", tokenizer), ("g", "GeneratorModule", generator)):
        model = {"class_path": f"videoar.training.{kind}", "init_args": args}
        trainer = common | {"default_root_dir": str(folder / name)}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"trainer": trainer, "model": model, "data": data}))
    return folder


def start(command, folder, name, *arguments):
    clips = () if "--data.root" in arguments else ("--data.root", str(folder / "clips"))
    return run([command, "--config", str(folder / f"{name}.yaml"), *clips, *arguments])


def test_a_run_from_yaml_to_latents_to_the_generator(place, capsys, caplog):
    """fit → resume with another learning rate → predict → fit the generator on the latents."""
    first = start("fit", place, "t")
    last = place / "t" / "checkpoints" / "last.ckpt"
    assert last.is_file() and (place / "t" / "config.yaml").is_file() and list((place / "t").glob("events*"))
    assert isinstance(first.trainer.strategy.checkpoint_io, SafeCheckpointIO)
    assert "done after 2 steps" in capsys.readouterr().err  # lines, not a bar, where stderr is no terminal

    changed = ["--ckpt_path", "last", "--trainer.max_steps", "3", "--model.optim.lr", "0.5"]
    second = start("fit", place, "t", *changed, "--model.optim.schedule", "constant")
    assert second.model.batches_seen == 3  # went on
    assert second.trainer.optimizers[0].param_groups[0]["lr"] == 0.5  # the command line wins over the checkpoint
    assert yaml.safe_load((place / "t" / "config.yaml").read_text())["model"]["init_args"]["optim"]["lr"] == 0.5

    latents = place / "latents"
    caplog.set_level("INFO")
    start("predict", place, "t", "--ckpt_path", str(last), "--model.latents_dir", str(latents))
    assert f"3 clips of 5 frames from 3 files into {latents}" in caplog.text
    files = sorted(latents.rglob("*.safetensors"))
    assert {path.parent.name for path in files} == {"pong", "breakout"} and len(files) == 3  # one is held out
    assert read_latent(files[0]).shape == (8, 2, 4, 4)
    assert latent_tokenizer(files[0]) == load_tokenizer(last).encoder_fingerprint()

    kept = ["--model.latents_dir", str(place / "kept"), "--model.stored", "bits"]
    start("predict", place, "t", "--ckpt_path", str(last), *kept)
    bits, pyramid = read_bits(place / "kept" / files[0].relative_to(latents))
    codes = load_tokenizer(last).quantize(read_latent(files[0])[None])
    assert codes.pyramid == pyramid and all(torch.equal(a, b) for a, b in zip(bits, codes.bits, strict=True))

    flat = place / "flat"
    for path in files:
        (flat / path.name).parent.mkdir(exist_ok=True)
        (flat / path.name).write_bytes(path.read_bytes())
    cached = ["--data.root", str(flat), "--model.tokenizer", str(last), "--trainer.max_steps", "1"]
    with pytest.raises(UserError, match=r"condition class needs classes, and none of \d clips has one; .*: none"):
        start("fit", place, "g", *cached)
    root = ["--trainer.default_root_dir", str(place / "unconditional")]
    free = start("fit", place, "g", *cached, *root, "--model.generator.condition", "none")
    assert free.model.network.config.condition == "none" and free.trainer.global_step == 1

    cached = ["--data.root", str(latents), "--model.tokenizer", str(last), "--trainer.max_steps", "1"]
    third = start("fit", place, "g", *cached)
    assert third.model.network.config.class_names == ("breakout", "pong")
    assert third.trainer.callback_metrics["train/loss"].isfinite()


@pytest.mark.parametrize(
    "message, expected",
    [
        ("unrecognized arguments: --trainer.max_step 3", "unrecognized arguments: --trainer.max_step 3"),
        ('Parser key "trainer.max_steps":\n  Expected a <class \'int\'>. Got value: x',
         "trainer.max_steps: expected int, got x"),
        (
            'Parser key "model":\n Does not validate against any of the Union subtypes\n Errors:\n'
            " - Problem with given class_path 'videoar.training.TokenizerModule':\n Parser key \"losses\":\n"
            " Does not validate against any of the Union subtypes Errors: - Problem with given class_path 'x.Losses':\n"
            " Option 'gna' is not accepted\n - Expected a <class 'NoneType'>\n Given value type: <class 'dict'>",
            "model.losses: Option 'gna' is not accepted",
        ),
        ("Parser key \"trainer.callbacks\":\n Does not validate against any of the Union subtypes\n Errors:\n"
         " - Problem with given class_path 'no.Such':\n No module named 'no'\n"
         " - Problem with given class_path 'no.Such':\n No module named 'no'\n - Expected a <class 'NoneType'>",
         "trainer.callbacks: no.Such: No module named 'no'"),
        ("Does not validate against any of the Union subtypes\n Errors:\n - no such preset\n - Expected a <class 'X'>",
         "no such preset"),
    ],
)  # fmt: skip
def test_messages_of_the_parser_are_reduced_to_their_heart(message, expected):
    assert explain(message) == expected


def test_as_list():
    assert as_list(None) == [] and as_list("x") == ["x"] and as_list((1, 2)) == [1, 2]


OTHER = "bf16-mixed" if machine_precision("cpu") == "32-true" else "32-true"


@pytest.mark.parametrize("given, expected", [([], None), (["--trainer.precision", OTHER], OTHER)])
def test_precision_is_the_machines_unless_it_is_given(place, given, expected):
    cli = start("fit", place, "t", "--trainer.fast_dev_run", "1", *given)
    assert cli.trainer.precision == (expected or machine_precision("cpu"))


def test_last_is_the_newest_checkpoint_whatever_its_name(place):
    """A run that keeps step=….ckpt and no last.ckpt goes on, instead of beginning anew."""
    keep = [{"class_path": KEEP, "init_args": {"save_last": False, "save_top_k": -1, "every_n_train_steps": 1}}]
    options = ["--trainer.default_root_dir", str(place / "steps"), "--trainer.callbacks", json.dumps(keep)]
    start("fit", place, "t", *options)
    assert not (place / "steps" / "checkpoints" / "last.ckpt").exists()
    assert start("fit", place, "t", *options, "--ckpt_path", "last", "--trainer.max_steps", "3").model.batches_seen == 3
