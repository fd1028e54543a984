"""`videoar compare`: same clips and seeds for every model, the worst clip first, and models of every condition."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from videoar import GeneratorConfig, TokenizerConfig, VideoAR, VideoTokenizer
from videoar.cli.main import main
from videoar.data.items import Item
from videoar.data.writers import write_mp4
from videoar.evaluation.compare import Comparison, compare
from videoar.evaluation.examples import Clips, conditions_of, read_clips
from videoar.evaluation.models import ModelTwin
from videoar.sampling.generate import generate


def twin(condition="class", generator=True, seed=0):
    torch.manual_seed(seed)
    config = TokenizerConfig(latent_dim=8, channels=8, multipliers=(1, 1, 2), res_blocks=1, norm_groups=4)
    tokenizer = VideoTokenizer(config).eval()
    names = {"num_classes": 2, "class_names": ("pong", "enduro")} if condition == "class" else {}
    wanted = GeneratorConfig(latent_dim=8, width=32, depth=1, heads=2, size=(16, 16), condition=condition, **names)
    return ModelTwin(tokenizer, VideoAR(wanted).eval() if generator else None, f"model {seed}")


@pytest.fixture
def clips(clip):
    items = [Item("a/pong.mp4", "pong"), Item("a/x.mp4", "другой", "a cat"), Item("a/enduro.mp4", "enduro")]
    return Clips(clip(3, 5, (16, 16)), tuple(items))


@pytest.mark.parametrize("condition", ["class", "bytes", "none"])
def test_every_condition_is_sampled_as_its_clips_ask(clips, condition):
    both = Comparison({"a": twin(condition), "b": twin(condition)}, clips, shown=2)
    a, b = (both.sample(name, both.first_seeds) for name in "ab")
    assert torch.equal(a.video, b.video), "same weights, same clips, same seeds"
    if condition == "class":
        model = both.models["a"]
        alone = generate(model.generator, model.tokenizer, ["pong"], frames=5, size=(16, 16), seed=0).video
        torch.testing.assert_close(a.video[:1], alone.float())
    if condition == "bytes":
        model = both.models["a"]
        alone = generate(model.generator, model.tokenizer, ["a cat"], frames=5, size=(16, 16), seed=1).video
        torch.testing.assert_close(a.video[1:], alone.float(), atol=1e-4, rtol=1e-4)


def test_all_scales_are_the_sample(clips):
    alone = Comparison({"a": twin()}, clips, shown=1)
    rows, labels, columns = alone.seeds_rows(3)
    assert len(rows) == 1 and len(rows[0]) == 3 and labels == ["a: pong"] and columns[2] == "seed 3"
    sheet, whole = alone.scales_sheet(), rows[0][0]
    last = np.asarray(sheet)[-98:-2, -98:-2]
    expected = whole[:, -1].add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    assert np.abs(last[::6, ::6].astype(int) - expected).max() <= 1, "the last column's last frame"


def test_the_moving_sheet_has_real_clips_above_samples_and_a_class_a_column(clips):
    again = replace(clips, items=(*clips.items[:2], clips.items[0]))
    both = Comparison({"a": twin(), "b": twin(generator=False), "c": twin(seed=1)}, again, shown=3)
    rows, labels, columns = both.clips_rows()
    assert (labels, columns) == (["real", "a", "c"], ["pong", "другой"])
    assert all(torch.equal(video, real) for video, real in zip(rows[0], again.video[:2]))
    assert torch.equal(rows[2][1], both.sample("c", both.first_seeds).video[1])


def test_the_worst_clip_comes_first(clips):
    compared = Comparison({"a": twin(), "b": twin(generator=False, seed=1)}, clips, shown=1)
    assert compared.generators == ["a"]
    lowest = min(range(3), key=lambda i: min(values[i] for values in compared.psnr.values()))
    video = compared.clips.video[lowest]
    sheet = compared.worst_sheet()
    first = video[:, 0].add(1).mul(127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
    found = [
        x
        for x in range(sheet.shape[1] - 96)
        if np.array_equal(sheet[-98:-2:6, x : x + 96 : 6][: first.shape[0]], first)
    ]
    assert found, "its real frame is on the sheet"


def test_the_command_writes_what_it_says(tmp_path, clip, capsys):
    for name, video in zip(("pong", "enduro"), clip(2, 9, (16, 16))):
        for number in range(2):
            write_mp4(tmp_path / "data" / name / f"{number}.mp4", video.roll(number, -1), 8)
    for name, seed in (("small", 0), ("large", 1)):
        model = twin(seed=seed)
        check = model.generator.config
        check.tokenizer_fingerprint = model.tokenizer.fingerprint()
        model.generator.save_pretrained(tmp_path / name / "generator")
        model.tokenizer.save_pretrained(tmp_path / name / "tokenizer")
    words = ["--data", str(tmp_path / "data"), "--frames", "5", "--shown", "2", "--seeds", "2", "--device", "cpu"]
    models = [f"klein={tmp_path / 'small'}", str(tmp_path / "large")]
    assert main(["compare", *models, *words, "--out", str(tmp_path / "out")]) == 0
    facts = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert list(facts["models"]) == ["klein", "large"] and facts["size"] == [16, 16] and facts["clips"]
    assert facts["psnr"]["klein"] != facts["psnr"]["large"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"clips.png", "clips.gif", "scales.png", "worst.png", "seeds.png", "seeds.gif", "compare.json"}
    assert "klein  PSNR" in capsys.readouterr().out


def test_clips_that_are_too_short_are_said_to_be(tmp_path, clip):
    write_mp4(tmp_path / "data" / "pong" / "0.mp4", clip(1, 5, (16, 16))[0], 8)
    model = twin(generator=False)
    model.tokenizer.save_pretrained(tmp_path / "model")
    from videoar.errors import UserError

    with pytest.raises(UserError, match=r"no clip of .* has 9 frames; --frames takes shorter ones"):
        compare([str(tmp_path / "model")], tmp_path / "data", tmp_path / "out", frames=9)


def test_clips_of_known_classes_come_first(tmp_path, clip):
    for name, video in zip(("pong", "zaxxon"), clip(2, 5, (16, 16))):
        for number in range(20):
            write_mp4(tmp_path / name / f"{number}.mp4", video, 8)
    both, known = (read_clips(tmp_path, 2, 5, (16, 16), classes) for classes in ((), ("pong",)))
    assert set(both.names) == {"pong", "zaxxon"} and set(known.names) == {"pong"}
    ask = {kind: conditions_of(twin(kind).generator, both.items) for kind in ("class", "none", "bytes")}
    assert ask["none"] == [None, None] and set(ask["class"]) <= {"pong", "enduro"} and all(ask["bytes"])
