import json
from pathlib import Path

import pytest
import torch

from videoar.data.readers import open_video
from videoar.errors import UserError
from videoar.evaluation.vbench_folder import Prompt, VBenchFolder, read_prompts

INFO = [
    {"prompt_en": "a cat, playing", "dimension": ["subject_consistency"]},
    {"prompt_en": "a red car", "dimension": ["color"], "auxiliary_info": {"color": {"color": "red"}}},
    {"prompt_en": "a cat, playing", "dimension": ["dynamic_degree"], "refined_prompt": "A tabby cat plays."},
]


def test_the_layout_is_vbenchs(tmp_path: Path) -> None:
    source = tmp_path / "prompts.json"
    source.write_text(json.dumps(INFO))
    folder = VBenchFolder(tmp_path / "videos", read_prompts(source), samples=2, fps=8)
    pending = list(folder.pending())
    assert [(p.text, i) for p, i in pending] == [
        ("a cat, playing", 0),
        ("a cat, playing", 1),
        ("a red car", 0),
        ("a red car", 1),
    ]
    for prompt, index in pending[:3]:
        folder.write(prompt, index, torch.zeros(3, 5, 32, 32))
    names = sorted(path.name for path in folder.path.iterdir())
    assert names == ["a cat, playing-0.mp4", "a cat, playing-1.mp4", "a red car-0.mp4"]
    assert len(open_video(folder.path / names[0], "pyav")) == 5 and open_video(folder.path / names[0], "pyav").fps == 8
    assert [(p.text, i) for p, i in folder.pending()] == [("a red car", 1)], "an interrupted run goes on"
    assert json.loads(folder.write_info().read_text()) == INFO


def test_prompts_from_text(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("pong\n\n breakout \n")
    assert read_prompts(path) == [Prompt("pong"), Prompt("breakout")]


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', "[{}]", "["])
def test_bad_prompt_files(tmp_path: Path, content: str) -> None:
    path = tmp_path / ("p.json" if content else "p.txt")
    path.write_text(content)
    with pytest.raises(UserError, match=str(path)):
        read_prompts(path)
    with pytest.raises(UserError, match="no prompt file"):
        read_prompts(tmp_path / "none.json")


@pytest.mark.parametrize("text", ["either/or", "long " * 60])
def test_prompts_that_are_no_file_names(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="cannot be a file name"):
        VBenchFolder(tmp_path, [Prompt(text)])
