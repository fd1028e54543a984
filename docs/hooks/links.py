"""For mkdocs: a link out of docs/ leads somewhere in a checkout, but not on the site.

There a picture is copied to images/, and any other link becomes plain text.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PICTURE = re.compile(r"(!\[[^\]]*\])\(\.\./([^)]+)\)")
LINK = re.compile(r"\[([^\]]+)\]\(\.\./[^)]+\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pictures that pages take from elsewhere in the repository."""
    for page in list(files.documentation_pages()):
        for _, path in PICTURE.findall(page.content_string):
            source = Path(config.docs_dir).parent / path
            files.append(File.generated(config, f"images/{source.name}", abs_src_path=str(source)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """`![text](../folder/file)` → `![text](images/file)`, `[text](../file)` → `text`."""
    markdown = PICTURE.sub(lambda found: f"{found[1]}(images/{Path(found[2]).name})", markdown)
    return LINK.sub(r"\1", markdown)
