"""Any image-embedding model that a person brings, as an ONNX file. The only door to onnxruntime.

A model takes float RGB pictures, (pixels / 255 - mean) / std, and gives numbers: a row for each picture, or a row for
each of several positions, which are averaged. Pictures go through one at a time, unless the model is made for more: on
two processors onnxruntime brings EfficientNet-Lite0 to 122 pictures a second one by one, 132 by eights and 118 by 32s;
batches take so many times the memory, and would let a picture's numbers depend on its neighbours.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from streamcluster.errors import ModelError, SettingsError
from streamcluster.runtime.blocks import tile_rows
from streamcluster.runtime.digests import file_digest
from streamcluster.runtime.memory import MIB, resident_bytes, room_bytes
from streamcluster.runtime.paths import printable

Layout = Literal["nchw", "nhwc"]
Pictures = NDArray[np.uint8]
Vectors = NDArray[np.float32]

#: Raised when the same model and options give other numbers than before.
EMBEDDING_VERSION: Final = 1
#: What onnxruntime takes beside a model, and how often it has the weights in memory while it loads them: as they are in
#: the file, and as its kernels want them.
RUNTIME_BYTES: Final = 48 * MIB
WEIGHT_COPIES: Final = 2
#: Times that a model is tried: what it takes grows once more on the second.
TRIALS: Final = 2
#: What a run takes at least, where the system does not tell.
LEAST_RUN_BYTES: Final = 8 * MIB
#: Axes of an output of so many dimensions that are positions in the picture.
_POSITIONS: Final[dict[tuple[int, Layout], tuple[int, ...]]] = {
    (2, "nchw"): (),
    (2, "nhwc"): (),
    (3, "nchw"): (1,),
    (3, "nhwc"): (1,),
    (4, "nchw"): (2, 3),
    (4, "nhwc"): (1, 2),
}
_FLOATS: Final = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """What a person says about a model; None where the model itself is to tell."""

    size: int | None
    layout: Layout | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    output: str | None


@dataclass(frozen=True, slots=True)
class Preparation:
    """What a model is fed with, and which of its outputs counts.

    Attributes
    ----------
    height, width : int
        Pixels of the pictures.
    layout : {"nchw", "nhwc"}
        Whether the channels come before the pixels or after.
    mean, std : tuple of float
        Of red, green and blue, where white is 1.
    batch : int
        Pictures that go through at a time.
    input, dtype, output : str
        Names of the model's input, of its NumPy type, and of its output.
    """

    height: int
    width: int
    layout: Layout
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    batch: int
    input: str
    dtype: str
    output: str

    @property
    def side(self) -> int:
        """Side of the square pictures that hold all that the model sees."""
        return max(self.height, self.width)

    def tensor(self, pictures: Pictures) -> NDArray[Any]:
        """Return uint8 (n, height, width, 3) RGB pictures as the model takes them, white ones up to `batch`."""
        missing = ((0, self.batch - len(pictures)), (0, 0), (0, 0), (0, 0))
        scaled = np.pad(pictures, missing, constant_values=255).astype(np.float32)
        scaled /= np.float32(255)
        scaled -= np.array(self.mean, np.float32)
        scaled /= np.array(self.std, np.float32)
        ordered = scaled.transpose(0, 3, 1, 2) if self.layout == "nchw" else scaled
        return np.ascontiguousarray(ordered, np.dtype(self.dtype))


class EmbeddingModel:
    """A model and how it is fed; a copy in another process loads the same file when it is first used.

    Attributes
    ----------
    path : str
    digest : str
        Of the file and of those beside it that hold its weights.
    preparation : Preparation
    """

    def __init__(self, path: str, digest: str, preparation: Preparation, session: Any = None) -> None:
        self.path = path
        self.digest = digest
        self.preparation = preparation
        self._session = session
        self._loading = threading.Lock()
        self._tried: tuple[int, int] | None = None

    def __reduce__(self) -> tuple[type[EmbeddingModel], tuple[str, str, Preparation]]:
        """Travel without what is loaded."""
        return EmbeddingModel, (self.path, self.digest, self.preparation)

    @property
    def name(self) -> str:
        """What stands for the model's bytes and all that its numbers depend on, 16 hexadecimal digits."""
        told = json.dumps([EMBEDDING_VERSION, self.digest, asdict(self.preparation)], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def embed(self, pictures: Pictures) -> Vectors:
        """Return float32 (n, D) rows of uint8 (n, height, width, 3) RGB pictures; safe in many threads at a time.

        Raises
        ------
        ModelError
            The model fails, or gives what are no rows.
        """
        tiles = tile_rows(len(pictures), self.preparation.batch)
        return np.concatenate([self._run(pictures[tile]) for tile in tiles])

    def _run(self, pictures: Pictures) -> Vectors:
        prepared = self.preparation
        fed = {prepared.input: prepared.tensor(pictures)}
        try:
            (given,) = self._loaded().run([prepared.output], fed)
        except ModelError:
            raise
        except Exception as error:  # onnxruntime's errors have no other base
            raise ModelError(f"{printable(self.path)} fails on a picture: {_first_line(error)}") from None
        return _rows(given, self.path, prepared)[: len(pictures)]

    def _loaded(self) -> Any:
        with self._loading:
            if self._session is None:
                if model_digest(self.path) != self.digest:
                    raise ModelError(f"{printable(self.path)} is another model here than where the work started")
                self._session = _load(self.path)
            return self._session

    def unload(self) -> None:
        """Give back what the model takes."""
        self._session = None

    def try_out(self) -> tuple[int, int]:
        """Return the numbers of a row, and the bytes that a run takes.

        These are measured, once: what the process grows by while the model looks at noise, since onnxruntime keeps what
        a run took, and no less than 8 MiB and four times the pictures as they are fed.

        Raises
        ------
        ModelError
            As `embed`, or the numbers are not finite.
        """
        if self._tried is None:
            prepared = self.preparation
            shape = (prepared.batch, prepared.height, prepared.width, 3)
            noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
            before = resident_bytes()
            for _ in range(TRIALS):
                rows = self.embed(noise)
            if not np.isfinite(rows).all():
                raise ModelError(
                    f"{printable(self.path)}: its output {prepared.output!r} is not finite, even for noise; "
                    "see to --onnx-mean and --onnx-std, or name another with --onnx-output"
                )
            least = LEAST_RUN_BYTES + 4 * 4 * noise.size
            self._tried = rows.shape[1], max(resident_bytes() - before, least)
        return self._tried


def open_model(path: str, options: ModelOptions, memory: int) -> EmbeddingModel:
    """Load a model, and settle how it is fed.

    Raises
    ------
    ModelError
        There is no such file, it is no ONNX model, it takes or gives something else than an embedding model does, or
        onnxruntime is not installed.
    SettingsError
        The options contradict the model, or it leaves something open that they must tell.
    BudgetError
        The model does not fit `memory`, the budget of the process: twice its files and 48 MiB.
    """
    files = model_files(path)
    needed = RUNTIME_BYTES + WEIGHT_COPIES * sum(map(os.path.getsize, files))
    room_bytes(memory, needed, f"the model {printable(path)}", " or a smaller model")
    session = _load(path)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1:
        names = ", ".join(one.name for one in inputs)
        raise ModelError(f"{printable(path)} takes {len(inputs)} inputs ({names}); use a model that takes a picture")
    stated = Input(inputs[0].name, inputs[0].type, tuple(n if isinstance(n, int) else None for n in inputs[0].shape))
    prepared = prepare(printable(path), stated, [one.name for one in outputs], options)
    return EmbeddingModel(path, model_digest(path), prepared, session)


@dataclass(frozen=True, slots=True)
class Input:
    """What a model says of its input: name, onnxruntime's type, and shape, None where anything goes."""

    name: str
    type: str
    shape: tuple[int | None, ...]


def prepare(shown: str, stated: Input, outputs: list[str], options: ModelOptions) -> Preparation:
    """Return how a model is fed, from what it states and what a person says; `shown` is its path.

    Raises
    ------
    ModelError, SettingsError
        As `open_model`.
    """
    if stated.type not in _FLOATS:
        raise ModelError(f"{shown} takes {stated.type}; use a model that takes float or float16")
    if len(stated.shape) != 4:
        raise ModelError(
            f"{shown} takes {len(stated.shape)} dimensions; use one of 4: pictures, channels, rows, columns"
        )
    layout = _layout(shown, stated.shape, options.layout)
    height, width = _size(shown, stated.shape[2:] if layout == "nchw" else stated.shape[1:3], options.size)
    output = options.output or outputs[0]
    if output not in outputs:
        raise SettingsError(f"--onnx-output {output}: {shown} has {', '.join(outputs)}")
    return Preparation(
        height=height,
        width=width,
        layout=layout,
        mean=options.mean,
        std=options.std,
        batch=stated.shape[0] or 1,
        input=stated.name,
        dtype=np.dtype(_FLOATS[stated.type]).name,
        output=output,
    )


def _layout(shown: str, shape: tuple[int | None, ...], asked: Layout | None) -> Layout:
    """Return where the channels are: where the shape has a 3, or allows one."""
    channels: dict[Layout, int | None] = {"nchw": shape[1], "nhwc": shape[3]}
    possible = [layout for layout, n in channels.items() if n in (3, None)]
    sure = [layout for layout in possible if channels[layout] == 3]
    if not possible:
        raise ModelError(f"{shown} takes no RGB pictures: neither dimension 1 nor 3 of {list(shape)} is 3")
    found = sure if len(sure) == 1 else possible
    if asked is not None and asked not in found:
        raise SettingsError(f"--onnx-layout {asked}: {shown} takes {found[0]}; leave the option out")
    if asked is None and len(found) > 1:
        raise SettingsError(f"{shown} does not say where its channels are; use --onnx-layout nchw or nhwc")
    return asked or found[0]


def _size(shown: str, stated: tuple[int | None, ...], asked: int | None) -> tuple[int, int]:
    height, width = (n or asked for n in stated)
    if height is None or width is None:
        raise SettingsError(f"{shown} takes pictures of any size; say which it was trained on: --onnx-size 224")
    if asked is not None and (height, width) != (asked, asked):
        raise SettingsError(f"--onnx-size {asked}: {shown} takes {height} × {width} pixels; leave the option out")
    return height, width


def _rows(given: Any, path: str, prepared: Preparation) -> Vectors:
    """Return an output as a row for each picture."""
    shown = f"{printable(path)}: its output {prepared.output!r}"
    if not isinstance(given, np.ndarray) or given.dtype.kind != "f":
        kind = given.dtype if isinstance(given, np.ndarray) else type(given).__name__
        raise ModelError(f"{shown} is {kind}, not float; name another with --onnx-output")
    positions = _POSITIONS.get((given.ndim, prepared.layout))
    if positions is None or len(given) != prepared.batch or not given.size:
        raise ModelError(
            f"{shown} has the shape {list(given.shape)}; it must be rows of {prepared.batch} pictures, of 2 to 4 "
            "dimensions; name another with --onnx-output"
        )
    wide: Any = given.astype(np.float32, copy=False)
    rows: Vectors = wide.mean(axis=positions, dtype=np.float32) if positions else wide
    return rows


def _load(path: str) -> Any:
    """Return a session of one thread: tasks are the parallelism, and the number of threads must not change sums."""
    try:
        import onnxruntime
    except ImportError:
        raise ModelError("--features onnx: needs onnxruntime; install it: pip install 'streamcluster[onnx]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no other base
        raise ModelError(f"{printable(path)} is no ONNX model that onnxruntime runs: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return printable(next(iter(str(error).splitlines()), type(error).__name__))


def model_files(path: str) -> list[str]:
    """Return a model's file and those beside it that hold its weights: model.onnx.data, or model.onnx_data.

    Raises
    ------
    ModelError
        There is no such file.
    """
    folder, name = os.path.split(os.path.abspath(path))
    try:
        if not os.path.isfile(path):
            raise FileNotFoundError
        beside = sorted(other for other in os.listdir(folder) if other.startswith((f"{name}.data", f"{name}_data")))
    except OSError as error:
        raise ModelError(f"--features onnx:{printable(path)}: {error.strerror or 'no such file'}") from None
    return [path, *filter(os.path.isfile, (os.path.join(folder, other) for other in beside))]


def model_digest(path: str) -> str:
    """Return what stands for the bytes of a model's files, in hexadecimal digits.

    Raises
    ------
    ModelError
        One of them is missing or unreadable.
    """
    files = model_files(path)
    try:
        digests = [file_digest(file) for file in files]
    except OSError as error:
        raise ModelError(f"--features onnx:{printable(path)}: {error.strerror}") from None
    return (digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(digests)).digest()).hex()
