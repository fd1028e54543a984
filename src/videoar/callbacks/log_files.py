"""Lines of JSON beside a run's logs: what does not fit a scalar."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer


def append_line(trainer: Trainer, name: str, values: dict[str, Any]) -> None:
    """Append one line to `<log_dir>/name`. To be called on every rank; the first one writes."""
    log_dir = trainer.log_dir  # asks all ranks
    if trainer.is_global_zero and log_dir is not None:
        path = Path(log_dir) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
