"""Smaller folders: weights stored as float16, or the transformer's as 8-bit integers. Arithmetic stays float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from videoar.errors import UserError

BLOCK = 32
"""Weights that share one scale, in int8."""
SMALL = 1024
"""Bytes below which a constant stays as it is."""


def stored_as(model: Any, precision: str) -> Any:
    """An onnx_ir model with smaller weights.

    float16: every weight is rounded, and widened again when the graph is loaded.
    int8: the matrices of MatMul go through onnxruntime's weight-only quantizer (MatMulNBits); the rest as float16.

    Raises:
        UserError: int8 without onnxruntime.
    """
    return _halved(_quantized(model) if precision == "int8" else model)


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

    try:
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    except ImportError as error:
        raise UserError(f"int8 needs {error.name}: pip install 'videoar[onnx]'") from error
    if not any(node.op_type == "MatMul" for node in model.graph):
        return model
    tool = MatMulNBitsQuantizer(ir.to_proto(model), bits=8, block_size=BLOCK, is_symmetric=True)
    tool.process()
    return ir.from_proto(tool.model.model)
