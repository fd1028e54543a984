"""Uploading a saved model to the Hugging Face hub, with a model card, in one commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi

from videoar.errors import UserError


def publish(
    repo_id: str,
    save: Callable[[Path], Any],
    card: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str = "Upload a VideoAR model",
    branch: str | None = None,
    create_pr: bool | None = None,
) -> str:
    """Create `repo_id` if need be and upload what `save` writes into a folder, with `card` as its README.md.

    Returns:
        The commit's address.

    Raises:
        UserError: the hub refuses (not logged in, no such user, no connection, …).
    """
    api = HfApi(token=token)
    with TemporaryDirectory() as folder:
        save(Path(folder))
        (Path(folder) / "README.md").write_text(card)
        try:
            repo_id = api.create_repo(repo_id=repo_id, private=private, exist_ok=True).repo_id
            return str(
                api.upload_folder(
                    repo_id=repo_id,
                    folder_path=folder,
                    commit_message=commit_message,
                    revision=branch,
                    create_pr=create_pr,
                )
            )
        except Exception as error:  # the hub raises many kinds; each means that the model was not uploaded
            raise UserError(f"{repo_id} could not be uploaded to the hub: {error}") from error


def model_card(title: str, what: str, usage: str, facts: Mapping[str, Any], tags: str = "video-generation") -> str:
    """A model card: what the model is, how to load it, its facts as a table. It claims no licence for the weights."""
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    head = f"---\nlibrary_name: videoar\ntags: [videoar, {tags}]\n---\n\n# {title}\n\n{what}"
    return f"{head}\n\n```python\n{usage}\n```\n\n| | |\n|---|---|\n{rows}\n"
