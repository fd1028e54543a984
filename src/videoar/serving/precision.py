"""Smaller folders: weights stored as float16, or the transformer's as 8-bit integers. Arithmetic stays float32."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np

from videoar.errors import UserError
from videoar.files import atomic_folder
from videoar.serving.runner import DESCRIPTION
from videoar.serving.shared import SMALL, SharedWeights

Precision = Literal["float16", "int8"]

BLOCK = 32
"""Weights that share one scale, in int8."""


def smaller(folder: str | Path, out: str | Path, precision: Precision) -> Path:
    """Write the folder `out`: an exported one with smaller weights.

    float16: every weight is rounded, and widened again when the graph is loaded.
    int8: the matrices of MatMul go through onnxruntime's weight-only quantizer (MatMulNBits); the rest as float16.

    Raises:
        UserError: `out` exists, or int8 without onnxruntime.
    """
    import onnx_ir

    source = Path(folder)
    with atomic_folder(out) as made:
        with SharedWeights(made) as weights:
            for path in sorted(source.glob("*.onnx")):
                model = onnx_ir.load(path)
                weights.save(_halved(_quantized(model) if precision == "int8" else model), path.stem)
        about = json.loads((source / DESCRIPTION).read_text(encoding="utf-8")) | {"weights": precision}
        (made / DESCRIPTION).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        for path in source.glob("*.py"):
            shutil.copyfile(path, made / path.name)
    return Path(out)


def _halved(model: Any) -> Any:
    import onnx_ir as ir

    for name, value in list(model.graph.initializers.items()):
        weights = value.const_value
        users = value.uses()
        scales = any(use.node.op_type == "MatMulNBits" for use in users)
        if weights.dtype != ir.DataType.FLOAT or weights.nbytes < SMALL or scales:
            continue
        half = ir.Value(name=f"{name}_half", const_value=ir.tensor(weights.numpy().astype(np.float16)))
        half.shape, half.dtype = value.shape, ir.DataType.FLOAT16
        cast = ir.node("Cast", [half], {"to": ir.DataType.FLOAT}, name=f"{name}_widened")
        cast.outputs[0].shape, cast.outputs[0].dtype = value.shape, ir.DataType.FLOAT
        ir.convenience.replace_all_uses_with(value, cast.outputs[0])
        del model.graph.initializers[name]
        model.graph.initializers[half.name] = half
        model.graph.insert_before(model.graph[0], cast)
    return model


def _quantized(model: Any) -> Any:
    import onnx_ir as ir

    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        from onnxruntime.quantization import matmul_nbits_quantizer as tools
    except ImportError as error:
        raise UserError(f"int8 needs {error.name}: pip install 'videoar[onnx]'") from error
    finally:  # importing it sets up logging for the whole process
        root.handlers[:] = handlers
        root.setLevel(level)
    tools.logger.setLevel(logging.WARNING)
    if not any(node.op_type == "MatMul" for node in model.graph):
        return model
    ir.external_data.load_to_model(model)
    tool = tools.MatMulNBitsQuantizer(ir.to_proto(model), bits=8, block_size=BLOCK, is_symmetric=True)
    tool.process()
    return ir.from_proto(tool.model.model)
