"""For mkdocs: a link out of docs/ leads somewhere in a checkout, but not on the site; there it becomes plain text."""

import re
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    """`[text](../file)` → `text`."""
    return re.sub(r"\[([^\]]+)\]\(\.\./[^)]+\)", r"\1", markdown)
