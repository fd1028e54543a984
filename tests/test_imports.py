"""Rooms import only from the left, and importing the package does nothing."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import videoar
from videoar.moved import MOVED

SOURCE = Path(videoar.__file__).parent
ORDER = [
    {"errors", "moved"},
    {"files", "motion", "ranges"},
    {"figures"},
    {"shipped"},
    {"hub", "randomness", "weights", "yaml_files"},
    {"pretrained"},
    {"provenance"},
    {"kernels"},
    {"bits"},
    {"tokenizer", "generator"},
    {"sampling"},
    {"serving"},
    {"losses"},
    {"data"},
    {"metrics"},
    {"training"},
    {"pipeline"},
    {"gallery"},
    {"evaluation"},
    {"demo"},
    {"benchmarking"},
    {"callbacks"},
    {"planning"},
    {"sweeps"},
    {"app"},
    {"cli"},
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """The rooms of videoar that a file imports, wherever in the file."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "videoar" else [node.module]
            )
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name and name.startswith("videoar.")}
    return rooms & RANK.keys()


FILES = sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE or path.stem in RANK)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_only_from_the_left(path):
    own = room_of(path)
    assert own in RANK, f"{own} has no place in the order of the rooms"
    wrong = {room for room in imported_rooms(path) if room != own and RANK[room] >= RANK[own]}
    assert not wrong, f"{path.relative_to(SOURCE)} is in {own} and imports {sorted(wrong)}"


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_the_line_of_rooms_that_people_read_is_the_one_that_is_checked(page):
    text = (SOURCE.parents[1] / page).read_text()
    line = re.search(r"`(kernels · [^`]* cli)`", text)[1]
    shown = [set(re.findall(r"\w+", place)) for place in line.split("·")]
    assert shown == ORDER[ORDER.index({"kernels"}) :]


def test_the_check_sees_a_violation(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from videoar.training.ema import EMA\n    import videoar.cli.main\n")
    assert imported_rooms(bad) == {"training", "cli"}


def loaded(modules, heavy):
    """Which of `heavy` a fresh interpreter has loaded once it has imported `modules`."""
    code = f"import sys, {', '.join(modules)}; print(*sorted(set({heavy}) & set(sys.modules)))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_importing_the_package_loads_nothing_heavy():
    assert loaded(["videoar", "videoar.cli.main"], ["torch", "lightning", "numpy", "av"]) == []


def test_sampling_does_without_lightning():
    """It takes longer to load than all else together."""
    modules = ["videoar.cli.sample", "videoar.pipeline", "videoar.sampling.graphs", "videoar.data.writers"]
    assert loaded(modules, ["torch", "lightning", "torchmetrics", "transformers"]) == ["torch"]


# ---- modules of earlier versions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_is_gone_and_says_the_new_one(old):
    with pytest.raises(ModuleNotFoundError) as raised:
        import_module(f"videoar.{old}")
    assert str(raised.value) == f"videoar.{old} has moved: it is videoar.{MOVED[old]} now"
    import_module(f"videoar.{MOVED[old]}")


def test_what_lay_below_an_old_package_says_where_the_package_is():
    with pytest.raises(ModuleNotFoundError, match=r"cli\.sweeps has moved: it is videoar\.sweeps now"):
        from videoar.cli.sweeps.spec import load_sweep  # noqa: F401
    with pytest.raises(ModuleNotFoundError, match=r"No module named .videoar\.nowhere"):
        import_module("videoar.nowhere")


def test_an_old_class_path_in_a_config_says_the_new_one(tmp_path, capsys):
    from videoar.cli.main import main

    config = tmp_path / "old.yaml"
    config.write_text("trainer:\n  callbacks:\n  - class_path: videoar.callbacks.kernel_timing.Workload\n")
    debug = SOURCE.parents[1] / "configs" / "tokenizer" / "debug.yaml"
    assert main(["fit", "--config", str(debug), "--config", str(config)]) == 2
    error = capsys.readouterr().err.strip()
    assert "videoar.callbacks.kernel_timing has moved: it is videoar.benchmarking.timing now" in error
    assert len(error.splitlines()) == 1
