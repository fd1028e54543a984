import sys
from pathlib import Path

import pytest
from PIL import Image

from videoar.evaluation.plots import drift_plot, fvd_plot, save_figure, scale_accuracy_plot


def test_plots_draw_what_they_are_given(tmp_path: Path) -> None:
    drift = drift_plot({"a": {"contrast": [1.0, 2.0], "psnr": [20.0, 19.0]}, "b": {"contrast": [1.5, 1.0]}})
    panels = drift.axes
    assert [len(panel.lines) for panel in panels] == [2, 1]
    assert list(panels[0].lines[1].get_ydata()) == [1.5, 1.0] and list(panels[0].lines[0].get_xdata()) == [1, 2]
    assert panels[0].get_ylim() == (0, pytest.approx(2.3)), "room above the highest point"
    assert drift.get_suptitle()
    scales = scale_accuracy_plot([10, 20], [[0.9, 0.6], [0.95, 0.7]])
    assert [list(line.get_ydata()) for line in scales.axes[0].lines[:2]] == [[0.9, 0.95], [0.6, 0.7]]
    fvd = fvd_plot({"run": ([1, 2, 3], [300.0, 200.0, 150.0])})
    assert list(fvd.axes[0].lines[0].get_ydata()) == [300.0, 200.0, 150.0]
    for i, figure in enumerate((drift, scales, fvd)):
        with Image.open(save_figure(figure, tmp_path / f"{i}.png")) as image:
            assert image.size[0] > 500 and image.convert("L").getextrema()[0] < 100
    assert len(list(tmp_path.iterdir())) == 3, "no temporary file is left"


def test_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="no per-frame curves"):
        drift_plot({"a": {}})
    with pytest.raises(ValueError, match="1 rows of accuracies for 2 steps"):
        scale_accuracy_plot([1, 2], [[0.5]])
    with pytest.raises(ValueError, match="no FVD curves"):
        fvd_plot({})
    with pytest.raises(ValueError, match="run: 1 values for 2 steps"):
        fvd_plot({"run": ([1, 2], [3.0])})


def test_pyplot_is_left_alone(tmp_path: Path) -> None:
    before = "matplotlib.pyplot" in sys.modules
    save_figure(fvd_plot({"run": ([1], [2.0])}), tmp_path / "f.png")
    assert ("matplotlib.pyplot" in sys.modules) == before
