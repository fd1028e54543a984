"""What README shows exists: every file it links, every command, every config."""

import re
from pathlib import Path

from videoar.cli.main import COMMANDS, TRAINING

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()


def test_links_lead_somewhere():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert len(links) > 10
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


def test_commands_and_configs_exist():
    commands = re.findall(r"^videoar (\w+)", README, flags=re.MULTILINE)
    assert {"fit", "sample", "data"} <= set(commands)
    assert set(commands) <= set(TRAINING) | set(COMMANDS)
    configs = re.findall(r"--config (\S+?\.yaml)", README)
    assert configs and [name for name in configs if not (REPOSITORY / name).is_file()] == []


def test_make_targets_exist():
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert f"\n{target}: " in makefile
