"""Turn another project's weights into a VideoTokenizer folder (safetensors + config.json).

videoar convert infinity infinity_vae_d32.pth outputs/inflated               # causal 3D, for video training
videoar convert infinity infinity_vae_d32.pth outputs/image --image          # the 2D image tokenizer as it is
videoar convert infinity infinity_vae_d32.pth outputs/d48 --latent-dim 48    # the paper's width, two layers new
"""

from __future__ import annotations

import argparse

from videoar.ranges import SEED, WIDTH


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("source", choices=["infinity"], help="whose layout the weights have")
    parser.add_argument("checkpoint", metavar="CKPT", help='released torch file, {"vae": weights}')
    parser.add_argument("out", metavar="OUT", help="folder to make; must not exist")
    parser.add_argument("--image", action="store_true", help="keep a 2D image tokenizer instead of inflating it")
    parser.add_argument(
        "--init",
        choices=["zero", "random"],
        default="zero",
        help="earlier temporal slices: zero, or random as the paper",
    )
    parser.add_argument(
        "--latent-dim", type=WIDTH, metavar="D", help="another bit width; the layers at the latent are new"
    )
    parser.add_argument("--seed", type=SEED, default=0, help="seed of whatever is random (default 0)")


def run(args: argparse.Namespace) -> None:
    """Import, check and save."""
    from videoar.data.files import atomic_folder
    from videoar.tokenizer.inflation import import_infinity

    tokenizer, report = import_infinity(args.checkpoint, args.image, args.init, args.latent_dim, args.seed)
    with atomic_folder(args.out) as folder:
        tokenizer.save_pretrained(folder)
    print(f"{report}\nwrote {args.out} (fingerprint {tokenizer.fingerprint()})")
