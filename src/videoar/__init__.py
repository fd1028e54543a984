"""VideoAR: autoregressive video generation by next-frame & next-scale prediction (arXiv 2601.05966).

pixels -> latent -> bits -> tokens -> logits -> bits -> latent -> pixels
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from videoar.moved import MovedModules

if TYPE_CHECKING:
    from videoar.bits.pyramid import ScalePyramid
    from videoar.generator.model import GeneratorConfig, VideoAR
    from videoar.pipeline import VideoARPipeline
    from videoar.sampling.generate import generate
    from videoar.tokenizer.model import TokenizerConfig, VideoTokenizer
    from videoar.training.checkpoint import load_models

__version__ = "0.1.0"
__all__ = [
    "GeneratorConfig",
    "ScalePyramid",
    "TokenizerConfig",
    "VideoAR",
    "VideoARPipeline",
    "VideoTokenizer",
    "generate",
    "load_models",
]

_HOME = {
    "GeneratorConfig": "videoar.generator.model",
    "ScalePyramid": "videoar.bits.pyramid",
    "TokenizerConfig": "videoar.tokenizer.model",
    "VideoAR": "videoar.generator.model",
    "VideoARPipeline": "videoar.pipeline",
    "VideoTokenizer": "videoar.tokenizer.model",
    "generate": "videoar.sampling.generate",
    "load_models": "videoar.training.checkpoint",
}


if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
    sys.meta_path.append(MovedModules())


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import videoar` and `videoar --help` stay fast."""
    if name not in _HOME:
        raise AttributeError(f"module 'videoar' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
