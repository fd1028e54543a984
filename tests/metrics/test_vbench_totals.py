import json
from pathlib import Path

import pytest

from videoar.errors import UserError
from videoar.metrics.vbench.aggregate import QUALITY, SCALES, aggregate, normalise, read_results

# Table 1 of the paper: total, quality, semantic; then the 16 columns in its order, all in percent.
TABLE_1 = {
    "LaVie": (
        "77.08 78.78 70.31 91.41 97.47 98.30 96.38 49.72 54.94 61.90 "
        "91.82 33.32 96.80 86.39 34.09 52.69 23.56 25.93 26.41"
    ),
    "VideoCrafter-2.0": (
        "80.44 82.20 73.42 96.85 98.22 98.41 97.73 42.50 63.13 67.22 "
        "92.55 40.66 95.00 92.92 35.86 55.29 25.13 25.84 28.23"
    ),
    "CogVideoX": (
        "81.61 82.75 77.04 96.23 96.52 98.66 96.92 70.97 61.98 62.90 "
        "85.23 62.11 99.40 82.81 66.35 53.20 24.91 25.38 27.59"
    ),
    "Kling": (
        "81.85 83.39 75.68 98.33 97.60 99.30 99.40 46.94 61.21 65.62 "
        "87.24 68.05 93.40 89.90 73.03 50.86 19.62 24.17 26.42"
    ),
    "Step-Video-T2V": (
        "81.83 84.46 71.28 98.05 97.67 99.44 99.08 53.06 61.23 70.63 "
        "80.56 50.55 94.00 88.25 71.47 24.38 23.17 26.01 27.12"
    ),
    "Gen-3": (
        "82.32 84.11 75.17 97.10 96.62 98.61 99.23 60.14 63.34 66.82 "
        "87.81 53.64 96.40 80.90 65.09 54.57 24.31 24.71 26.69"
    ),
    "Hunyuan-Video": (
        "83.24 85.09 75.82 97.37 97.76 99.44 98.99 70.83 60.36 67.56 "
        "86.10 68.55 94.40 91.60 68.68 53.88 19.80 23.89 26.44"
    ),
    "VideoAR": (
        "81.74 82.88 77.15 95.51 97.85 98.83 98.37 61.39 63.42 60.71 "
        "94.98 72.88 94.40 90.73 56.14 50.52 22.68 25.11 27.44"
    ),
}


@pytest.mark.parametrize("model", TABLE_1)
def test_the_papers_table_1_follows_from_its_columns(model: str) -> None:
    """All eight rows reproduce; the largest gap is 0.023 (Step-Video-T2V, quality)."""
    total, quality, semantic, *columns = (float(v) / 100 for v in TABLE_1[model].split())
    scores = aggregate(dict(zip(SCALES, columns, strict=True)))
    assert scores.missing == ()
    assert scores.quality == pytest.approx(quality, abs=5e-4)
    assert scores.semantic == pytest.approx(semantic, abs=5e-4)
    assert scores.total == pytest.approx(total, abs=5e-4)


def test_vbenchs_own_vector() -> None:
    raw = dict.fromkeys(SCALES, 0.9)
    raw |= {
        "scene": 0.5,
        "appearance_style": 0.25,
        "temporal_style": 0.25,
        "overall_consistency": 0.27,
        "dynamic_degree": 0.6,
    }
    scores = aggregate(raw)
    assert scores.quality == pytest.approx(0.8066507969562238, abs=1e-12)
    assert scores.semantic == pytest.approx(0.8235510555818086, abs=1e-12)
    assert scores.total == pytest.approx(0.8100308486813408, abs=1e-12)


def test_missing_dimensions_and_substitutes_give_no_total() -> None:
    raw = dict.fromkeys(QUALITY, 0.9)
    scores = aggregate(raw)
    assert scores.quality is not None and scores.semantic is None and scores.total is None
    assert set(scores.missing) == set(SCALES) - set(QUALITY)
    del raw["motion_smoothness"]
    scores = aggregate(raw | {"motion_smoothness@ffmpeg": 0.9})
    assert scores.quality is None and "motion_smoothness" in scores.missing
    with pytest.raises(ValueError, match="beauty"):
        aggregate({"beauty": 1.0})


def test_normalisation_is_not_clipped() -> None:
    assert normalise("motion_smoothness", 0.9975) == pytest.approx(1)
    assert normalise("motion_smoothness", 1.0) > 1 and normalise("subject_consistency", 0.0) < 0


def test_results_of_the_official_suite(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    first = {"temporal flickering": [0.98, [{"video_path": "a-0.mp4", "video_results": 0.98}]], "color": [0.9, []]}
    (tmp_path / "results_1_eval_results.json").write_text(json.dumps(first))
    (tmp_path / "run" / "results_2_eval_results.json").write_text(json.dumps({"scene": [0.5, []]}))
    (tmp_path / "results_1_full_info.json").write_text(json.dumps([{"prompt_en": "a", "dimension": []}]))
    assert read_results(tmp_path) == {"temporal_flickering": 0.98, "color": 0.9, "scene": 0.5}
    (tmp_path / "z.json").write_text(json.dumps({"color": [0.8, []]}))
    with pytest.raises(UserError, match=r"color is 0\.8"):
        read_results(tmp_path)


def test_no_results(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no VBench result"):
        read_results(tmp_path)
    with pytest.raises(UserError, match="no folder"):
        read_results(tmp_path / "nowhere")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        read_results(tmp_path)
