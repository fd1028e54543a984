"""Where modules of earlier versions went. An import of an old name, or a class path in a config, says the new one."""

from __future__ import annotations

import re
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any

MOVED = {
    "callbacks.kernel_timing": "benchmarking.timing",
    "cli.benchmarking": "benchmarking",
    "cli.outputs": "gallery.folder",
    "cli.planning": "planning",
    "cli.samples": "evaluation.samples",
    "cli.sweeps": "sweeps",
    "metrics.cache": "evaluation.cache",
    "metrics.evaluate": "evaluation.evaluate",
    "metrics.folder": "evaluation.folders",
    "metrics.models": "evaluation.models",
    "metrics.plan": "evaluation.plan",
    "metrics.plots": "evaluation.plots",
    "metrics.protocol": "evaluation.protocol",
    "metrics.report": "evaluation.report",
    "metrics.samples": "evaluation.samples",
    "metrics.shipped": "shipped",
    "metrics.sources": "evaluation.sources",
    "metrics.vbench.layout": "evaluation.vbench_folder",
}
"""Old module or package → new one, both without `videoar.`"""


def moved(module: str) -> str | None:
    """What to say of a module that an earlier version had; None if none of that name has moved."""
    now = MOVED.get(module.removeprefix("videoar."))
    return f"{module} has moved: it is videoar.{now} now" if now and module.startswith("videoar.") else None


def explained(message: str) -> str:
    """An error's message, or where the module is now that it misses as an attribute of its package."""
    missing = re.search(r"module '(videoar[\w.]*)' has no attribute '(\w+)'", message)
    said = moved(f"{missing[1]}.{missing[2]}") if missing else None
    return message.replace(missing[0], said) if missing and said else message


class MovedModules(MetaPathFinder):
    """The last to be asked for a module that nobody finds.

    Raises:
        ModuleNotFoundError: with the new name, for a module that has moved.
    """

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if (said := moved(fullname)) is not None:
            raise ModuleNotFoundError(said, name=fullname)
        return None
