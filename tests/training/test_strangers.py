"""Checkpoints of strangers, and damaged ones: nothing in them runs, nothing outside the run is deleted."""

import logging
import os
import random
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from videoar.errors import UserError
from videoar.training.checkpoint import export, load_models, load_tokenizer, read_checkpoint
from videoar.training.checkpoint_io import SafeCheckpointIO
from videoar.training.tokenizer_module import TokenizerModule


class Payload:
    """Pickles as a call that makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.fixture
def run(fit, clips, tokenizer_module, tmp_path):
    """A short run's checkpoint in its folder."""
    fit(tokenizer_module(), clips(2)).save_checkpoint(tmp_path / "run" / "last.ckpt")
    return tmp_path / "run" / "last.ckpt"


@pytest.fixture
def url(tmp_path, monkeypatch):
    """Serves a folder; the hub's cache lies beside it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_pickle_behind_a_url_does_not_run(tmp_path, url, fit, tokenizer_module, clips):
    torch.save({"state_dict": {}, "x": Payload(tmp_path / "ran")}, tmp_path / "evil.ckpt")
    for use in (
        lambda: SafeCheckpointIO().load_checkpoint(f"{url}/evil.ckpt", weights_only=False),
        lambda: fit(tokenizer_module(), clips(1), ckpt_path=f"{url}/evil.ckpt"),
        lambda: TokenizerModule.load_from_checkpoint(f"{url}/evil.ckpt", weights_only=False),
    ):
        with pytest.raises(Exception, match=r"plain data|[Ww]eights.only"):
            use()
    assert not (tmp_path / "ran").exists()


def test_a_run_goes_on_from_a_url(run, url, fit, tokenizer_module, clips):
    module = tokenizer_module()
    fit(module, clips(3), max_steps=3, max_epochs=-1, ckpt_path=f"{url}/run/last.ckpt")
    assert module.batches_seen == 3
    with pytest.raises(UserError, match=r"nothing\.ckpt is no checkpoint of plain data that can be had"):
        SafeCheckpointIO().load_checkpoint(f"{url}/nothing.ckpt")


@pytest.mark.parametrize("seed", range(24))
def test_a_flipped_bit_is_noticed_or_changes_nothing(tmp_path, seed):
    content = {"state_dict": {"w": torch.arange(600.0)}, "videoar": {"batches_seen": 12345}}
    torch.save(content, tmp_path / "last.ckpt")
    data, rng = bytearray((tmp_path / "last.ckpt").read_bytes()), random.Random(seed)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    (tmp_path / "last.ckpt").write_bytes(data)
    try:
        again = read_checkpoint(tmp_path / "last.ckpt")
    except UserError as error:
        assert "last.ckpt" in str(error)
        return
    assert torch.equal(again["state_dict"]["w"], content["state_dict"]["w"]) and again["videoar"] == content["videoar"]


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": 5},
        {"state_dict": {"tokenizer.x": "words"}},
        {"state_dict": {}, "videoar": 5},
        {"state_dict": {}, "videoar": {"kind": "tokenizer"}},
        {"state_dict": {}, "videoar": {"kind": "generator"}, "generator_config": [1]},
        {"state_dict": {}, "videoar": {"kind": "generator"}, "generator_config": {"width": 65_000, "depth": 900}},
        {"state_dict": {}, "videoar": {"kind": "tokenizer"}, "tokenizer_config": {"channels": 60_000}},
        {"state_dict": {}, "videoar": {"kind": "tokenizer"}, "tokenizer_config": {}, "ema": {"weights": 1}},
        [1, 2],
    ],
)
def test_what_is_no_whole_checkpoint_is_one_clear_error(tmp_path, content):
    torch.save(content, tmp_path / "x.ckpt")
    for use in (load_tokenizer, load_models, lambda path: export(path, tmp_path / "out")):
        with pytest.raises(UserError, match=r"x\.ckpt") as error:
            use(tmp_path / "x.ckpt")
        assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.ckpt"]


def test_weights_that_are_not_finite_are_refused(run, fit, clips, tokenizer_module):
    content = torch.load(run, weights_only=True)
    name = "tokenizer.encoder.conv_in.weight"
    content["state_dict"][name][0, 0] = float("nan")
    content["ema"]["weights"][name.removeprefix("tokenizer.")][0, 0] = float("inf")
    torch.save(content, run)
    for use in (
        load_tokenizer,
        lambda path: load_tokenizer(path, ema=False),
        lambda path: fit(tokenizer_module(), clips(1), ckpt_path=path),
    ):
        with pytest.raises(UserError, match=r"encoder\.conv_in\.weight holds values that are not finite"):
            use(run)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("videoar", [{}]),
        ("tokenizer_config", None),
        ("ema", 5),
        ("optimizer_states", [{}]),
        ("loops", 5),
        ("loops", {}),
    ],
)
def test_states_that_cannot_be_taken_up_are_one_clear_error(run, place, key, value, capsys):
    from videoar.cli.main import main

    content = torch.load(run, weights_only=True)
    content[key] = value
    if value is None:
        del content[key]
    torch.save(content, run)
    assert main(["fit", "--config", str(place), "--ckpt_path", str(run)]) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err


@pytest.fixture
def place(tmp_path, clips):
    """A YAML that goes on with `run` on clips of its own."""
    import yaml

    from videoar.data.writers import write_mp4

    for i, clip in enumerate(clips(1)[0]["video"]):
        write_mp4(tmp_path / "clips" / "pong" / f"{i}.mp4", clip, fps=8)
    trainer = {"max_steps": 2, "max_epochs": -1, "accelerator": "cpu", "limit_val_batches": 0}
    trainer |= {"enable_model_summary": False, "enable_checkpointing": False, "logger": False}
    trainer |= {"default_root_dir": str(tmp_path / "on")}
    tokenizer = {"latent_dim": 8, "channels": 8, "multipliers": [1, 1, 2], "res_blocks": 1, "norm_groups": 4}
    losses = {"perceptual": 0.0, "entropy": 0.0, "lecam": 0.0}
    model = {"class_path": "videoar.training.TokenizerModule", "init_args": {"tokenizer": tokenizer, "losses": losses}}
    model["init_args"]["discriminator"] = {"channels": 4, "layers": 2, "temporal_layers": 1}
    data = {"root": str(tmp_path / "clips"), "stage": {"resolution": 16, "frames": 5, "batch_size": 2}}
    data |= {"loading": {"workers": 0}}
    (tmp_path / "on.yaml").write_text(yaml.safe_dump({"trainer": trainer, "model": model, "data": data}))
    return tmp_path / "on.yaml"


# ---- deletions ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_resuming_a_strangers_checkpoint_deletes_nothing_outside_the_run(run, fit, clips, tokenizer_module, tmp_path):
    folder = tmp_path / "own"
    keep = partial(ModelCheckpoint, dirpath=folder, save_top_k=1, every_n_train_steps=1)
    fit(tokenizer_module(), clips(2), callbacks=[keep()], enable_checkpointing=True)
    (mine,) = folder.glob("*.ckpt")
    for name in ("photos/album.ckpt", "photos/album.txt", "own/notes.txt", "own/folder.ckpt/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    before = sorted(path for path in tmp_path.rglob("*") if "photos" in path.parts or path.suffix == ".txt")
    content = torch.load(mine, weights_only=True)
    for victim in (
        "../photos",
        "../photos/album.ckpt",
        "../photos/album.txt",
        "notes.txt",
        "folder.ckpt",
        ".",
        "../..",
    ):
        (state,) = content["callbacks"].values()
        path = f"{folder}/{victim}"
        state |= {"best_k_models": {path: torch.tensor(0.0)}, "best_model_path": path, "kth_best_model_path": path}
        torch.save(content, tmp_path / "stranger.ckpt")
        options = {"max_steps": 3, "max_epochs": -1, "ckpt_path": tmp_path / "stranger.ckpt"}
        fit(tokenizer_module(), clips(3), callbacks=[keep()], enable_checkpointing=True, **options)
        after = sorted(path for path in tmp_path.rglob("*") if "photos" in path.parts or path.suffix == ".txt")
        assert after == before, victim


def test_only_own_checkpoints_are_deleted(tmp_path, caplog):
    io, own, other = SafeCheckpointIO(), tmp_path / "own", tmp_path / "other"
    for folder in (own, other):
        for name in ("a.ckpt", "b.txt"):
            folder.mkdir(exist_ok=True)
            (folder / name).write_text("")
    io.save_checkpoint({"state_dict": {}}, own / "new.ckpt")
    os.symlink(own / "new.ckpt", own / "link.ckpt")
    with caplog.at_level(logging.WARNING):
        for name in ("own/b.txt", "other/a.ckpt", "own/../other/a.ckpt", "other", "own/nothing.ckpt"):
            io.remove_checkpoint(str(tmp_path / name))
    assert caplog.text.count("is no checkpoint of this run") == 4
    io.remove_checkpoint(str(own / "link.ckpt"))  # the link goes, not what it leads to
    io.remove_checkpoint(other / ".." / "own" / "a.ckpt")
    assert sorted(path.name for path in own.iterdir()) == ["b.txt", "new.ckpt"]
    assert sorted(path.name for path in other.iterdir()) == ["a.ckpt", "b.txt"]


@pytest.mark.parametrize("extra", ["run/last.ckpt", "photo.png", "generator/notes.txt", "folder/", None])
def test_export_replaces_a_whole_exported_model_only(run, tmp_path, extra):
    out = tmp_path / "model"
    export(run, out)
    if extra:
        place = out / extra
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir() if extra.endswith("/") else place.write_bytes(run.read_bytes())
    (out / "README.md").write_text("about")
    source = out / extra if extra == "run/last.ckpt" else run
    if extra is None:
        export(source, out, overwrite=True)
    else:
        with pytest.raises(UserError, match="no exported model and nothing else"):
            export(source, out, overwrite=True)
        assert place.exists()
    assert (out / "README.md").read_text() == "about" and load_tokenizer(out)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["config.json", "generator", "tokenizer"])
def test_export_overwrites_no_folder_that_only_looks_like_a_model(run, tmp_path, name):
    out = tmp_path / "work"
    (out / name).mkdir(parents=True) if name != "config.json" else (out.mkdir(), (out / name).write_text("{}"))
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"it is not overwritten; it holds"):
        export(run, out, overwrite=True)
    assert (out / "thesis.txt").read_text() == "mine"
