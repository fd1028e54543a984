"""The Python blocks of a documentation page run in order, as one program."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("page", ["bit_arithmetic.md"])
def test_python_blocks_run(page):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)
    program = "\n".join(blocks)
    assert "assert" in program
    exec(compile(program, page, "exec"), {})
