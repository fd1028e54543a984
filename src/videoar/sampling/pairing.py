"""Does a tokenizer belong to a generator?"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch

from videoar.errors import UserError
from videoar.generator.model import VideoAR
from videoar.tokenizer.model import VideoTokenizer

_known: WeakKeyDictionary[VideoTokenizer, tuple[list[tuple[int, int]], tuple[str, str]]] = WeakKeyDictionary()


def check_pair(generator: VideoAR, tokenizer: VideoTokenizer) -> None:
    """Refuse a tokenizer whose bits the generator does not speak.

    Weights in half precision have another fingerprint than those they were rounded from, so they are only compared by
    their number of bits.

    Raises:
        UserError: another number of bits, or another encoder than the one whose bits the generator was trained with.
    """
    own, other = generator.config.latent_dim, tokenizer.config.latent_dim
    if own != other:
        raise UserError(f"the generator speaks {own} bits a token, the tokenizer {other}: they do not belong together")
    expected = generator.config.tokenizer_fingerprint
    rounded = next(tokenizer.parameters()).dtype in (torch.bfloat16, torch.float16)
    if expected and not rounded and expected not in (found := bits_of(tokenizer)):
        raise UserError(
            f"the generator was trained with tokenizer {expected}, this one is {found[0]}: "
            "their bits mean different things"
        )


def bits_of(tokenizer: VideoTokenizer) -> tuple[str, str]:
    """What generators and latents call the tokenizer whose bits they speak: its encoder's fingerprint, once its own.

    Hashing takes a second a gigabyte, so it is done only once for weights that do not change.
    """
    weights = list(tokenizer.parameters())
    if any(weight.is_inference() for weight in weights):  # these do not say whether they have changed
        return tokenizer.encoder_fingerprint(), tokenizer.fingerprint()
    state = [(weight.data_ptr(), weight._version) for weight in weights]
    if tokenizer not in _known or _known[tokenizer][0] != state:
        _known[tokenizer] = state, (tokenizer.encoder_fingerprint(), tokenizer.fingerprint())
    return _known[tokenizer][1]
