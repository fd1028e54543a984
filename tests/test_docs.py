"""The documentation: the site builds without a warning, its Python runs, its commands parse, what it names exists."""

import argparse
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from videoar.cli.main import COMMANDS, TRAINING

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
PAGES = {path.name: path.read_text() for path in [*sorted(DOCS.glob("*.md")), REPOSITORY / "README.md"]}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], flags=re.DOTALL)


def commands(page: str) -> list[tuple[str, ...]]:
    """The `videoar` commands of a page's shell blocks, each as its arguments; srun and torchrun are left out."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [tuple(line[line.index("videoar") + 1 :]) for line in words if "videoar" in line]


EVERY = sorted({command for page in PAGES for command in commands(page)})
FITS = [command for command in EVERY if command[0] in TRAINING]


def test_the_site_builds_without_a_warning(tmp_path):
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(build, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr  # --strict: a warning is an error
    pages = {path.name for path in (tmp_path / "site").glob("*.html")}
    assert {page.replace(".md", ".html") for page in PAGES} - {"README.html"} <= pages
    assert "encode_stream" in (tmp_path / "site" / "api.html").read_text()


@pytest.mark.parametrize("page", [page for page in PAGES if "assert " in "".join(blocks(page, "python"))])
def test_python_blocks_run(page):
    program = "\n".join(blocks(page, "python"))
    exec(compile(program, page, "exec"), {})


@pytest.mark.parametrize("command", [c for c in EVERY if c[0] not in TRAINING], ids=" ".join)
def test_commands_parse(command):
    if command == ("--help",) or command == ("--version",):
        return
    module = import_module(COMMANDS[command[0]][0])
    parser = argparse.ArgumentParser(exit_on_error=False)
    module.add_arguments(parser)
    here = ["cpu" if word == "cuda" and not torch.cuda.is_available() else word for word in command[1:]]
    parsed = parser.parse_args(here)
    protocol = getattr(parsed, "protocol", None)
    assert protocol is None or (REPOSITORY / "configs" / "evaluate" / f"{protocol}.yaml").is_file()


@pytest.mark.parametrize("command", FITS, ids=" ".join)
def test_training_commands_parse(command, capsys, monkeypatch):
    from videoar.cli.training import run

    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(SystemExit) as stop:
        run([*command, "--print_config"])
    assert stop.value.code == 0
    assert "class_path: videoar.training" in capsys.readouterr().out


def test_there_are_commands_to_check():
    assert {"fit", "sample", "sweep", "evaluate", "plan", "data"} <= {command[0] for command in EVERY}
    assert len(FITS) > 10


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page):
    """Configs and results that a page names, and files that it links."""
    found = re.findall(r"\b(?:configs|benchmarks|tests|assets)/[\w./-]*+(?![*{<])", PAGES[page])  # no patterns
    named = {path.rstrip("./") for path in found}
    folder = REPOSITORY if page == "README.md" else DOCS
    linked = set(re.findall(r"\]\((?!http)([^)#]+)", PAGES[page]))
    assert sorted(path for path in named if not (REPOSITORY / path).exists()) == []
    assert sorted(link for link in linked if not (folder / link).exists()) == []
