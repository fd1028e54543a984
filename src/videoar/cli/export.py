"""Turn a training checkpoint into a folder of safetensors and config.json, which plain PyTorch loads.

videoar export outputs/generator/atari/checkpoints/last.ckpt outputs/atari-model
python -c "from videoar import VideoAR; VideoAR.from_pretrained('outputs/atari-model')"

With --onnx, a model of any form into ONNX graphs and a runner, which need neither PyTorch nor videoar:

videoar export videoar-atari outputs/atari-onnx --onnx
python outputs/atari-onnx/sample.py --label riverraid
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from videoar.cli.options import storage
from videoar.cli.progress import Jobs
from videoar.errors import UserError
from videoar.ranges import SIDE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help=".ckpt of a tokenizer's or a generator's run; --onnx: or a folder or a name")
    parser.add_argument("out", help="folder to make")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it is an exported model")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the stored weights")
    parser.add_argument(
        "--max-shard-size", type=storage, default="5GB", metavar="SIZE", help="split larger weights (default 5GB)"
    )
    parser.add_argument("--tokenizer", help="what goes with a generator instead of its own: one with a better decoder")
    parser.add_argument("--raw", action="store_true", help="the last weights instead of the averaged ones")
    onnx = parser.add_argument_group("ONNX")
    onnx.add_argument("--onnx", action="store_true", help="write ONNX graphs and a runner")
    onnx.add_argument(
        "--size", type=SIDE, nargs="+", metavar="PX", help="side, or height and width, of the videos (default: trained)"
    )
    onnx.add_argument(
        "--weights",
        choices=["float32", "float16", "int8"],
        default="float32",
        help="how weights are stored; arithmetic is float32 (default float32)",
    )


def run(args: argparse.Namespace) -> None:
    out = _onnx(args) if args.onnx else _safetensors(args)
    print(f"{out}: {', '.join(sorted(part.name for part in out.iterdir()))}")


def _safetensors(args: argparse.Namespace) -> Path:
    import torch

    from videoar.training.checkpoint import export

    if args.size or args.weights != "float32":
        raise UserError("--size and --weights are options of --onnx")
    dtype, shard = getattr(torch, args.dtype), args.max_shard_size
    return export(args.checkpoint, args.out, not args.raw, args.overwrite, dtype, shard, args.tokenizer)


def _onnx(args: argparse.Namespace) -> Path:
    try:
        from videoar.serving.export import export_onnx
        from videoar.serving.precision import smaller
    except ImportError as error:
        raise UserError(f"--onnx needs {error.name}: pip install 'videoar[onnx]'") from error
    from videoar.training.checkpoint import load_models

    if args.overwrite or args.tokenizer is not None or args.dtype != "float32":
        raise UserError("--overwrite, --tokenizer and --dtype are no options of --onnx; --weights float16 stores less")
    if args.size and len(args.size) > 2:
        raise UserError(f"--size takes one or two numbers, got {args.size}")
    size = (args.size[0], args.size[-1]) if args.size else None
    models = load_models(args.checkpoint, not args.raw)
    with Jobs() as jobs, TemporaryDirectory() as place:
        told = lambda graph: jobs.say(f"wrote {graph}.onnx")  # noqa: E731
        if args.weights == "float32":
            return export_onnx(*models, args.out, size, told)
        return smaller(export_onnx(*models, Path(place) / "float32", size, told), args.out, args.weights)
