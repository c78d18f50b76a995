"""Small real ONNX models, and what they give, computed by NumPy."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

#: Side of the patches that the models look at, and the numbers that they give.
PATCH, WIDTH = 4, 6
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def weights(seed=0):
    """Return float32 (WIDTH, 3, PATCH, PATCH)."""
    return np.random.default_rng(seed).normal(size=(WIDTH, 3, PATCH, PATCH)).astype(np.float32)


def expected(pictures, seed=0, mean=MEAN, std=STD):
    """Return float (n, WIDTH): relu of a convolution over patches side by side, averaged."""
    n, height, width = pictures.shape[:3]
    scaled = (pictures / 255.0 - mean) / std
    patches = scaled.reshape(n, height // PATCH, PATCH, width // PATCH, PATCH, 3)
    return np.maximum(np.einsum("nyixjc,dcij->nyxd", patches, weights(seed)), 0).mean(axis=(1, 2))


def save(path, nodes, inputs, outputs, initializers=(), opset=17):
    """Write a model of these nodes; inputs and outputs are (name, type, shape)."""
    infos = [[helper.make_tensor_value_info(*info) for info in side] for side in (inputs, outputs)]
    graph = helper.make_graph(nodes, "model", *infos, list(initializers))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), path)
    return str(path)


def save_model(
    path,
    *,
    layout="nchw",
    size=32,
    batch="n",
    output="rows",
    seed=0,
    channels=3,
    kind=TensorProto.FLOAT,
    extra=(),
    extra_kind=TensorProto.FLOAT,
):
    """Write a model that gives what `expected` says.

    Parameters
    ----------
    output : {"rows", "map", "positions"}
        Averaged over the picture, or as a map of WIDTH channels, or as a row for each patch.
    size : int, tuple or None
        None lets the model take any.
    extra : sequence of NodeProto
        Nodes after the rows, the last of which gives "extra", of `extra_kind`.
    """
    height, width = size if isinstance(size, tuple) else (size or "h", size or "w")
    shape = [batch, channels, height, width] if layout == "nchw" else [batch, height, width, channels]
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    nodes = [helper.make_node("Transpose", ["pixels"], ["turned"], perm=[0, 3, 1, 2])] if layout == "nhwc" else []
    nodes += [
        helper.make_node("Conv", ["turned" if nodes else "pixels", "w"], ["conv"], strides=[PATCH, PATCH]),
        helper.make_node("Relu", ["conv"], ["map"]),
    ]
    if output == "map" and layout == "nhwc":
        nodes.append(helper.make_node("Transpose", ["map"], ["given"], perm=[0, 2, 3, 1]))
    elif output == "map":
        nodes.append(helper.make_node("Identity", ["map"], ["given"]))
    elif output == "positions":
        nodes.append(helper.make_node("Reshape", ["map", "as_list"], ["listed"]))
        nodes.append(helper.make_node("Transpose", ["listed"], ["given"], perm=[0, 2, 1]))
    else:
        nodes.append(helper.make_node("ReduceMean", ["map"], ["given"], axes=[2, 3], keepdims=0))
    initializers = [
        numpy_helper.from_array(weights(seed).astype(dtype), "w"),
        numpy_helper.from_array(np.array([0, WIDTH, -1]), "as_list"),
    ]
    outputs = [("given", kind, None)] + ([("extra", extra_kind, None)] if extra else [])
    return save(path, nodes + list(extra), [("pixels", kind, shape)], outputs, initializers)
