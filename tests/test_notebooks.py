"""The notebooks run from top to bottom on real outputs, show pictures, and are stored without outputs."""

import json
from pathlib import Path

import pytest
from nbmake.nb_run import NotebookRun

FOLDER = Path(__file__).parents[1] / "notebooks"
PICTURES = {"01_bits_and_scales": 5, "02_reconstruct_a_clip": 3, "03_inspect_samples": 6, "04_read_a_sweep": 3}
NOTEBOOKS = [FOLDER / f"{name}.ipynb" for name in PICTURES]


def by_name(path: Path) -> str:
    return path.stem


def test_every_notebook_is_tested():
    assert sorted(FOLDER.glob("*.ipynb")) == NOTEBOOKS


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_notebook_runs(path, debug_sweep, monkeypatch, tmp_path):
    (checkpoint,) = (debug_sweep / "full__seed0").rglob("last.ckpt")
    monkeypatch.setenv("VIDEOAR_MODEL", str(checkpoint))
    monkeypatch.setenv("VIDEOAR_DATA", str(debug_sweep / "data"))
    monkeypatch.setenv("VIDEOAR_SWEEP", str(debug_sweep))
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    result = NotebookRun(path, default_timeout=300).execute()
    assert result.error is None, result.error.trace
    outputs = [output for cell in result.nb.cells for output in cell.get("outputs", [])]
    assert [output["text"] for output in outputs if output.get("name") == "stderr"] == []
    assert sum("image/png" in output.get("data", {}) for output in outputs) == PICTURES[path.stem]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_outputs_are_stripped(path):
    """Else: jupyter nbconvert --clear-output --inplace notebooks/*.ipynb"""
    code = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert code
    assert [cell["outputs"] for cell in code if cell["outputs"]] == []
    assert [cell["execution_count"] for cell in code if cell["execution_count"] is not None] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_one_cell_holds_all_paths(path):
    code = ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert code[0].startswith("# ---- settings: the only cell to change")
    assert [cell for cell in code[1:] if "os.environ" in cell or "../outputs" in cell] == []
