import json
from pathlib import Path

import pytest
import torch

from videoar.data.writers import write_mp4
from videoar.errors import UserError
from videoar.metrics.features import train_atari
from videoar.metrics.features.atari import load_atari


def make_set(root: Path) -> Path:
    """Two games, one dark and one bright, two training clips and one test clip each."""
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for label, level in (("a", -0.8), ("b", 0.8)):
        for i in range(3):
            name = f"{label}/v_{label}_g0{i}_c01.mp4"
            video = torch.full((3, 10, 64, 64), level)
            video[:, :, :, :8] = torch.linspace(-1, 1, 10).view(1, 10, 1, 1)
            write_mp4(root / name, video, fps=8)
            lists["train" if i else "test"].append(name)
    for split, names in lists.items():
        (root / f"{split}list01.txt").write_text("".join(f"{name} 1\n" for name in names))
    return root


def test_training_writes_a_net_that_loads_with_its_test_accuracy(tmp_path: Path) -> None:
    recipe = train_atari.Recipe(steps=9, batch=4, frames=5, lr=2e-2, width=8)
    notes = train_atari.train(make_set(tmp_path / "set"), tmp_path / "net", recipe)
    config = json.loads((tmp_path / "net" / "config.json").read_text())
    assert config["classes"] == ["a", "b"] and config["recipe"]["steps"] == 9
    assert config["train_clips"] == 4 and config["test_clips"] == 2
    assert config["test_accuracy"] == notes["test_accuracy"] in (0.0, 0.5, 1.0)
    net = load_atari(tmp_path / "net")
    assert net(torch.zeros(1, 3, 5, 64, 64)).shape == (1, 8)
    again = train_atari.train(tmp_path / "set", tmp_path / "again", recipe)
    assert {k: v for k, v in again.items() if k != "cpu_seconds"} == {
        k: v for k, v in notes.items() if k != "cpu_seconds"
    }
    assert load_atari(tmp_path / "again").sha256 == net.sha256, "the seed fixes the weights"


def test_a_test_clip_of_an_unknown_game(tmp_path: Path) -> None:
    root = make_set(tmp_path)
    (root / "testlist01.txt").write_text("b/v_b_g00_c01.mp4\n")
    (root / "trainlist01.txt").write_text("a/v_a_g01_c01.mp4 1\n")
    with pytest.raises(UserError, match="is of class 'b', which has no training clip"):
        train_atari.train(root, tmp_path / "out", train_atari.Recipe(steps=1, batch=1))
