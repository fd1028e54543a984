"""The house is as docs/architecture.md says: its rooms, its engines, its owners, and the size of what stands in it."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

import videoar

SOURCE = Path(videoar.__file__).parent
ROOT = SOURCE.parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
READ_ALONE = {"serving/runner.py"}  # copied into every exported folder, and read there as one file
LINES, OF_A_FUNCTION = 300, 50


def trees(*folders):
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        yield path, ast.parse(path.read_text())


def test_files_and_functions_stay_short():
    large = []
    for path, tree in trees(SOURCE):
        name = path.relative_to(SOURCE).as_posix()
        if len(path.read_text().splitlines()) > LINES and name not in READ_ALONE:
            large.append(name)
        functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
        large += [f"{name}: {f.name}" for f in functions if f.end_lineno - f.lineno >= OF_A_FUNCTION]
    assert large == []


def test_every_room_has_a_row_with_files_to_start_at():
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", PAGE, flags=re.M))
    rooms = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert rooms | {"pipeline"} == rows.keys()
    for room, files in rows.items():
        for file in re.findall(r"`([\w/.]+)`", files):
            assert (SOURCE / room / file).is_file() or (SOURCE / file).is_file(), f"{room}: {file}"


def test_every_file_that_the_page_names_is_there():
    places = (SOURCE, ROOT)
    for name in re.findall(r"`((?:\w+/)+\w+\.\w+)`", PAGE):
        assert any((place / name).exists() for place in places), name


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(videoar(?:\.\w+)+)[`(]", PAGE))))
def test_every_engine_that_the_page_names_can_be_called(name):
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError as error:
            if not str(error.name).startswith("videoar"):
                pytest.skip(f"needs {error.name}")
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return
    raise AssertionError(name)


def test_benchmarks_go_around_the_command_line():
    imports = [
        f"{path.name}: {node.module}"
        for path, tree in trees(ROOT / "benchmarks")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("videoar.cli")
    ]
    assert imports == []
