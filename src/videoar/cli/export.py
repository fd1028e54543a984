"""Turn a training checkpoint into a folder of safetensors and config.json, which plain PyTorch loads.

videoar export outputs/generator/atari/checkpoints/last.ckpt outputs/atari-model
python -c "from videoar import VideoAR; VideoAR.from_pretrained('outputs/atari-model')"
"""

import argparse

from videoar.cli.options import storage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help=".ckpt of a tokenizer's or a generator's run")
    parser.add_argument("out", help="folder to make")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it is an exported model")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the stored weights")
    parser.add_argument(
        "--max-shard-size", type=storage, default="5GB", metavar="SIZE", help="split larger weights (default 5GB)"
    )
    parser.add_argument("--raw", action="store_true", help="the last weights instead of the averaged ones")


def run(args: argparse.Namespace) -> None:
    import torch

    from videoar.training.checkpoint import export

    dtype, shard = getattr(torch, args.dtype), args.max_shard_size
    out = export(args.checkpoint, args.out, not args.raw, args.overwrite, dtype, shard)
    print(f"{out}: {', '.join(sorted(part.name for part in out.iterdir()))}")
