"""Training: one LightningModule for the tokenizer, one for the generator, and what their checkpoints are."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from videoar.training.generator_module import GeneratorModule
    from videoar.training.tokenizer_module import TokenizerModule

__all__ = ["GeneratorModule", "TokenizerModule"]
_HOME = {
    "GeneratorModule": "videoar.training.generator_module",
    "TokenizerModule": "videoar.training.tokenizer_module",
}


def __getattr__(name: str) -> Any:
    """Import a module class on first use: Lightning takes a second, and not every command needs it."""
    if name not in _HOME:
        raise AttributeError(f"module 'videoar.training' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
