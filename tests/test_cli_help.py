"""Every command explains itself, without loading torch."""

import subprocess
import sys

import pytest

from videoar.cli.main import COMMANDS, TRAINING

PROGRAM = """
import sys
from videoar.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code
assert not code, code
assert "torch" not in sys.modules, "help must not load torch"
"""


@pytest.mark.parametrize("command", [None, *TRAINING, *COMMANDS])
def test_help(command):
    arguments = [command, "--help"] if command else ["--help"]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"videoar {command}" in done.stdout if command else "commands:" in done.stdout
