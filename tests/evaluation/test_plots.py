import sys
from pathlib import Path

import pytest
from PIL import Image

from videoar.evaluation.plots import curves_plot, drift_plot
from videoar.figures import save_figure


def test_plots_draw_what_they_are_given(tmp_path: Path) -> None:
    drift = drift_plot({"a": {"contrast": [1.0, 2.0], "psnr": [20.0, 19.0]}, "b": {"contrast": [1.5, 1.0]}})
    panels = drift.axes
    assert [len(panel.lines) for panel in panels] == [2, 1]
    assert list(panels[0].lines[1].get_ydata()) == [1.5, 1.0] and list(panels[0].lines[0].get_xdata()) == [1, 2]
    assert panels[0].get_ylim() == (0, pytest.approx(2.3)), "room above the highest point"
    assert drift.get_suptitle()
    runs = {"tokenizer": {"train/psnr": {10: 20.0, 20: 25.0}}, "generator": {"val/loss": {10: 0.6}}}
    logged = curves_plot(runs, {"tokenizer": ["train/psnr"], "generator": ["val/loss", "val/never"]}, columns=2)
    assert [panel.get_title() for panel in logged.axes[:3]] == [
        "tokenizer: psnr",
        "generator: val/loss",
        "generator: val/never",
    ]
    assert list(logged.axes[0].lines[0].get_xdata()) == [10, 20] and not logged.axes[2].lines[0].get_xdata().size
    assert logged.axes[1].lines[0].get_marker() == "."
    for i, figure in enumerate((drift, logged)):
        with Image.open(save_figure(figure, tmp_path / f"{i}.png")) as image:
            assert image.size[0] > 500 and image.convert("L").getextrema()[0] < 100
    assert len(list(tmp_path.iterdir())) == 2, "no temporary file is left"


def test_a_set_of_videos_has_one_colour_and_a_frame_without_value_no_say() -> None:
    real, made = {"motion": [float("nan"), 2.0]}, {"motion": [float("nan"), 1.0], "psnr": [20.0, 19.0]}
    motion, psnr = drift_plot({"real": real, "made": made}).axes
    assert motion.get_ylim() == (0, pytest.approx(2.3))
    assert psnr.lines[0].get_color() == motion.lines[1].get_color() != motion.lines[0].get_color()


def test_learning_rates_have_a_logarithmic_axis() -> None:
    curves = {"train/lr": {1: 1e-5, 2: 1e-3}, "train/loss": {1: 2.0, 2: 1.0}}
    panels = curves_plot({"run": curves}, {"run": list(curves)}).axes
    assert [panel.get_yscale() for panel in panels] == ["log", "linear"]


def test_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="no per-frame curves"):
        drift_plot({"a": {}})
    with pytest.raises(ValueError, match="no scalars"):
        curves_plot({"run": {"loss": {1: 2.0}}}, {})


def test_pyplot_is_left_alone(tmp_path: Path) -> None:
    before = "matplotlib.pyplot" in sys.modules
    save_figure(curves_plot({"run": {"loss": {1: 2.0}}}, {"run": ["loss"]}), tmp_path / "f.png")
    assert ("matplotlib.pyplot" in sys.modules) == before
