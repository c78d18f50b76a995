"""Every setting of every job: its type, limits, default and meaning, in this one place.

The command line, the TOML files and the README's tables are made from these models; the Python API takes them as they
are. A setting's help text is the `description` beside its type.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import Meta

from streamcluster.errors import SettingsError
from streamcluster.runtime.memory import MIB, format_bytes

SettingsT = TypeVar("SettingsT", bound="Settings")

#: Endings by which a file claims to be a picture. Those that cannot be read are listed as rejects, with the reason.
PICTURE_ENDINGS = (
    *("apng", "avif", "bmp", "cur", "dds", "dib", "exr", "fits", "gif", "hdr", "heic", "heif", "hif", "ico", "j2c"),
    *("j2k", "jfif", "jp2", "jpe", "jpeg", "jpf", "jpg", "jpg_large", "jpg_orig", "jpx", "jxl", "pbm", "pcx", "pgm"),
    *("png", "pnm", "ppm", "psb", "psd", "qoi", "sgi", "svg", "tga", "tif", "tiff", "wbmp", "webp"),
    # camera raw files
    *("3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "iiq", "kdc", "mef", "mos", "mrw", "nef", "nrw", "orf"),
    *("pef", "raf", "rw2", "rwl", "sr2", "srf", "srw", "x3f"),
)


class ByteSize(int):
    """A number of bytes, written with or without a unit.

    >>> ByteSize.parse("512MiB")
    536870912
    """

    @classmethod
    def parse(cls, value: object) -> ByteSize:
        """Return the size that `value` (a number, or text such as `1.5GiB` or `800 MB`) stands for."""
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt]?)(i?)b?)?\s*", str(value).lower())
        if match is None:
            raise ValueError(f"{value!r} is not a size; write it like 512MiB or 2GiB")
        number, prefix, binary = match.groups()
        step = 1024 if binary else 1000
        return cls(float(number) * step ** (" kmgt".index(prefix) if prefix else 0))

    def __str__(self) -> str:
        return format_bytes(self).replace(".0 ", "").replace(" ", "")


#: Feature spaces made of thumbnails; and how the name of one begins that a model makes of the files.
THUMBNAIL_FEATURES = ("color", "texture", "mixed", "rgb", "gray", "hsv", "lab")
MODEL_PREFIX = "onnx:"


class FeatureName(str):
    """The name of a feature space: one of `THUMBNAIL_FEATURES`, or `onnx:` and the path of a model."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> FeatureName:
        """Return the name in `value`.

        >>> FeatureName.parse("onnx:model.onnx").model
        'model.onnx'
        """
        name = str(value)
        if name in THUMBNAIL_FEATURES:
            return cls(name)
        if name.startswith(MODEL_PREFIX) and name != MODEL_PREFIX:
            return cls(MODEL_PREFIX + os.path.expanduser(name.removeprefix(MODEL_PREFIX)))
        raise ValueError(f"there are {', '.join(THUMBNAIL_FEATURES)}, and {MODEL_PREFIX}PATH with the path of a model")

    @property
    def model(self) -> str | None:
        """The path of the model, None where thumbnails are enough."""
        return self.removeprefix(MODEL_PREFIX) if self.startswith(MODEL_PREFIX) else None


class Channels(tuple[float, float, float]):
    """A number for each of red, green and blue, where white is 1.

    >>> Channels.parse("0.5"), Channels.parse("0.1, 0.2, 0.3")
    ((0.5, 0.5, 0.5), (0.1, 0.2, 0.3))
    """

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Channels:
        """Return the numbers in `value`: text of three, with commas, or of one for all, or a list of them."""
        parts = value if isinstance(value, list | tuple) else str(value).split(",")
        try:
            numbers = [float(part) for part in parts]
        except (TypeError, ValueError):
            numbers = []
        if len(numbers) not in (1, 3) or not all(map(math.isfinite, numbers)):
            raise ValueError("write three numbers, for red, green and blue, like 0.485,0.456,0.406, or one for all")
        return cls(numbers * (3 // len(numbers)))

    def __str__(self) -> str:
        return ",".join(map(str, self))


class Settings(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    """Base of the settings models: immutable, and checked however they are made.

    Values are converted to their types: sizes may be text, paths may be path-like, and a list may be its only item.

    Raises
    ------
    SettingsError
        A value has the wrong type, lies outside its limits or excludes another.
    """

    #: Groups of settings of which one at most may be given.
    exclusive: ClassVar[tuple[tuple[str, ...], ...]] = ()

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(self):
            value = getattr(self, field.name)
            if value is not field.default:
                checked = _convert(option_name(field.name), field.type, value)
                msgspec.structs.force_setattr(self, field.name, checked)
        for group in self.exclusive:
            given = [option_name(name) for name in group if _is_given(getattr(self, name))]
            if len(given) > 1:
                raise SettingsError(f"{' and '.join(given)} exclude one another; give one of them")

    @classmethod
    def from_mapping(cls: type[SettingsT], values: Mapping[str, Any]) -> SettingsT:
        """Return the settings in `values`.

        Raises
        ------
        SettingsError
            A name is unknown or missing, or as for the class.
        """
        if unknown := sorted(set(values) - set(cls.__struct_fields__)):
            raise SettingsError(f"there is no setting {unknown[0]!r}; see --help for those there are")
        for field in msgspec.structs.fields(cls):
            if field.required and field.name not in values:
                raise _missing(field.name)
        return cls(**values)


def _convert(label: str, kind: Any, value: Any) -> Any:
    """Return a setting's value in its type; `label` is what a person calls the setting."""
    if isinstance(value, str | os.PathLike) and takes_many(kind):
        value = (value,)
    plain = tuple(map(_path_text, value)) if isinstance(value, list | tuple) else _path_text(value)
    try:
        return msgspec.convert(plain, kind, strict=False, dec_hook=_convert_custom)
    except (ValueError, msgspec.ValidationError) as error:  # the second is one of the first from msgspec 0.21 on
        complaint = str(error).partition(" - at `$")[0].replace("`", "")
        raise SettingsError(f"{label} {value}: {_way_out(complaint, kind)}") from None


#: What msgspec complains about, and what a person does about it.
_WAYS_OUT = (
    (re.compile(r"Expected (?:int|float) >= (.+)"), "use {} or more"),
    (re.compile(r"Expected (?:int|float) > (.+)"), "use more than {}"),
    (re.compile(r"Expected (?:int|float) <= (.+)"), "use {} or less"),
    (re.compile(r"Expected (?:int|float) < (.+)"), "use less than {}"),
    (re.compile(r"Expected str matching regex '\^#.+"), "use # and six hexadecimal digits, such as #ffffff"),
)


_NUMBERS: dict[Any, list[str]] = {int: ["a whole number"], float: ["a number"]}


def _way_out(complaint: str, kind: Any) -> str:
    """Return what to do instead, where that follows from the complaint and the setting's type."""
    for pattern, words in _WAYS_OUT:
        if found := pattern.fullmatch(complaint):
            return words.format(*found.groups())
    choices = _choices(kind)
    if choices and complaint.startswith(("Invalid enum value", "Expected int", "Expected float")):
        return "use " + " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))
    return complaint


def _choices(kind: Any) -> list[str]:
    """Return what a setting of this type may be.

    >>> _choices(Annotated[int, "of groups"] | Literal["auto"])
    ['a whole number', 'auto']
    """
    if get_origin(kind) is Literal:
        return [str(value) for value in get_args(kind)]
    inner = [part for part in get_args(kind) if part is not type(None)]
    return [choice for part in inner for choice in _choices(part)] or _NUMBERS.get(kind, [])


def _path_text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _convert_custom(target: type, value: object) -> object:
    if target in (ByteSize, FeatureName, Channels):
        return target.parse(value)
    raise NotImplementedError(target)


def _is_given(value: object) -> bool:
    return value is not None and value is not False


def _missing(name: str) -> SettingsError:
    return SettingsError(f"{option_name(name)} is missing; give it in the command, the environment or a settings file")


def takes_many(kind: Any) -> bool:
    """Whether a setting of this type is a list."""
    return get_origin(kind) is tuple or any(map(takes_many, get_args(kind)))


#: Settings that the command line takes by their place, and what it calls them.
ARGUMENTS = {"sources": "SOURCE", "dest": "DEST", "directory": "DIR", "out_dir": "OUT_DIR", "out": "OUT"}


def option_name(field: str) -> str:
    """Return the command line's name of a setting."""
    return ARGUMENTS.get(field) or "--" + field.replace("_", "-")


def annotation_of(field: msgspec.structs.FieldInfo) -> tuple[Any, Meta]:
    """Return a setting's type, without None, and what is said about it."""
    annotation = next((part for part in get_args(field.type) if get_origin(part) is Annotated), field.type)
    kind, about = get_args(annotation)
    return kind, about


def variable_name(field: msgspec.structs.FieldInfo) -> str:
    """Return the environment variable that sets a setting."""
    extra = annotation_of(field)[1].extra or {}
    return "STREAMCLUSTER_" + (extra["variable"] or field.name.upper())


def environment_values(model: type[Settings], environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that environment variables give. Lists are separated as in PATH; an empty one says nothing.

    Raises
    ------
    SettingsError
        A value has the wrong type or lies outside its limits.
    """
    fields = {variable_name(field): field for field in msgspec.structs.fields(model)}
    return {
        field.name: _convert(name, field.type, text.split(os.pathsep) if takes_many(field.type) else text)
        for name, field in fields.items()
        if (text := environment.get(name))
    }


def layered(model: type[Settings], *layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return one mapping of several, where a later one beats what an earlier one sets, and what that excludes.

    >>> layered(FitSettings, {"variance": 0.9, "keep": 5}, {"components": 8})
    {'keep': 5, 'components': 8}
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        beaten = {name for group in model.exclusive if any(_is_given(layer.get(n)) for n in group) for name in group}
        merged = {name: value for name, value in merged.items() if name not in beaten} | dict(layer)
    return merged


def default_workers() -> int:
    """Return the number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _about(description: str, *, shown: str = "", metavar: str = "", variable: str = "", **limits: Any) -> Meta:
    """Describe a setting: its help text, what help shows as the default where the value would not tell, its limits.

    `variable` names the environment variable where two jobs mean different things by the setting's own name.
    """
    return Meta(description=description, extra={"shown": shown, "metavar": metavar, "variable": variable}, **limits)


Store = Annotated[str, _about("Folder of the store, by custom ending in .zarr.", metavar="STORE")]
Memory = Annotated[ByteSize, _about("Memory that the whole process may take, resident.", metavar="SIZE")]
Workers = Annotated[int, _about("Threads that decode, project and copy.", ge=1, le=1024, shown="one a processor")]
Seed = Annotated[int, _about("Seed of everything random.", ge=0, lt=2**32, shown="0 in a new store")]
Side = Annotated[int, _about("Side of the square thumbnails, in pixels.", ge=8, le=1024, shown="64 in a new store")]
Aspect = Annotated[
    Literal["squash", "pad", "crop"],
    _about("How a picture that is not square becomes one.", shown="squash in a new store"),
]
Colour = Annotated[
    str,
    _about(
        "Colour behind transparent pictures, and of the padding.",
        pattern="^#[0-9a-fA-F]{6}$",
        shown="#ffffff in a new store",
        metavar="#RRGGBB",
    ),
]
Globs = tuple[str, ...]


class JobSettings(Settings, frozen=True, kw_only=True):
    """What every job takes."""

    store: Store
    memory: Memory = ByteSize(1024 * MIB)
    workers: Workers = msgspec.field(default_factory=default_workers)


class MappedSettings(JobSettings, frozen=True, kw_only=True):
    """What the jobs take that can run on a cluster."""

    scheduler: (
        Annotated[
            str,
            _about(
                "Run on the dask.distributed cluster at this address, or with local on processes of this machine.",
                metavar="tcp://HOST:PORT|local",
            ),
        ]
        | None
    ) = None


class StoreDefaults(Settings, frozen=True, kw_only=True):
    """What a new store is made with; later runs must not contradict it."""

    image_size: int = 64
    aspect: Literal["squash", "pad", "crop"] = "squash"
    background: str = "#ffffff"
    seed: int = 0


class IngestSettings(MappedSettings, frozen=True, kw_only=True):
    """Settings of `ingest`. None means: what the store was made with, or `StoreDefaults` for a new one."""

    sources: Annotated[
        tuple[str, ...], _about("Folders to scan, with all folders below them.", min_length=1, metavar="SOURCE")
    ]
    include: Annotated[
        Globs,
        _about(
            "Take only files whose name, or path in its source, matches.", shown="all picture formats", metavar="GLOB"
        ),
    ] = tuple(f"*.{ending}" for ending in PICTURE_ENDINGS)
    exclude: Annotated[Globs, _about("Leave out files and folders that match.", metavar="GLOB")] = ()
    drop: Annotated[
        tuple[str, ...], _about("Folders that are sources no more: their pictures leave the groups.", metavar="FOLDER")
    ] = ()
    image_size: Side | None = None
    aspect: Aspect | None = None
    background: Colour | None = None
    seed: Seed | None = None
    max_pixels: Annotated[int, _about("Reject pictures whose header promises more pixels.", ge=1)] = 100_000_000
    allow_gone: Annotated[
        bool, _about("Believe that pictures are gone although a whole source, or most of it, is missing.")
    ] = False


class FitSettings(MappedSettings, frozen=True, kw_only=True):
    """Settings of `fit`."""

    exclusive = (("components", "variance"), ("recut", "full"), ("recut", "clusters"))

    clusters: (
        Annotated[
            Annotated[int, Meta(ge=1, le=10_000)] | Literal["auto"],
            _about("Number of groups; auto chooses it.", metavar="N|auto", shown="50"),
        ]
        | None
    ) = None
    recut: (
        Annotated[
            int, _about("Make N groups of what the last fit learned, without a look at the pictures.", ge=1, le=10_000)
        ]
        | None
    ) = None
    full: Annotated[bool, _about("Learn from all pictures anew, not only from those that came since.")] = False
    mode: Annotated[
        Literal["update", "auto"],
        _about(
            "What to do where the new pictures are unlike those learned from: say so, or learn anew.",
            variable="FIT_MODE",
        ),
    ] = "update"
    keep: Annotated[int, _about("Finished fits that stay in the store.", ge=1, le=1000)] = 3
    components: (
        Annotated[
            int, _about("Number of principal components.", ge=1, le=10_000, shown="100, or what --variance takes")
        ]
        | None
    ) = None
    variance: (
        Annotated[
            float, _about("Take as many components as reach this cumulative explained variance ratio.", gt=0, lt=1)
        ]
        | None
    ) = None
    features: Annotated[
        FeatureName,
        _about(
            "What of a picture is compared: which colours are where, in any exposure; the texture of aligned pictures "
            "in any light; both; plain pixels of a colour space; or what a model of yours makes of the file.",
            metavar="|".join([*THUMBNAIL_FEATURES, f"{MODEL_PREFIX}PATH"]),
        ),
    ] = FeatureName("color")
    texture_weight: Annotated[
        float, _about("With mixed features: weight of the texture, where the colours have 1.", gt=0, le=1000)
    ] = 2.0
    onnx_size: (
        Annotated[
            int,
            _about("With a model: side of the pictures that it takes, in pixels.", ge=1, le=4096, shown="what it says"),
        ]
        | None
    ) = None
    onnx_layout: (
        Annotated[
            Literal["nchw", "nhwc"],
            _about("With a model: whether channels come before pixels or after.", shown="what it says"),
        ]
        | None
    ) = None
    onnx_mean: Annotated[
        Channels,
        _about("With a model: what is taken from red, green and blue, where white is 1.", metavar="R,G,B"),
    ] = Channels((0.485, 0.456, 0.406))
    onnx_std: Annotated[
        Channels,
        _about("With a model: what red, green and blue are then divided by.", metavar="R,G,B"),
    ] = Channels((0.229, 0.224, 0.225))
    onnx_output: (
        Annotated[str, _about("With a model: which output is compared.", metavar="NAME", shown="the first")] | None
    ) = None
    scores: Annotated[
        Literal["half-whitened-unit", "plain", "whitened"],
        _about(
            "Space in which distances are measured: components evened out half-way and pictures to unit length, "
            "components as they are, or all components alike."
        ),
    ] = "half-whitened-unit"
    batch_rows: (
        Annotated[
            int,
            _about("Pictures that PCA and k-means learn from at a time.", ge=1, shown="1024, or what --memory allows"),
        ]
        | None
    ) = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not min(self.onnx_std) > 0:
            raise SettingsError(f"--onnx-std {self.onnx_std}: pictures are divided by it; use numbers above 0")


class ExportSettings(JobSettings, frozen=True, kw_only=True):
    """Settings of `export`; without a store it can only undo."""

    exclusive = (("restore", "undo", "manifest_only"),)

    store: Store = ""
    dest: Annotated[
        str, _about("Folder to put the groups into; with --manifest-only the table's file.", metavar="DEST")
    ]
    mode: Annotated[
        Literal["copy", "hardlink", "symlink"],
        _about("How a picture gets into its group's folder.", variable="EXPORT_MODE"),
    ] = "copy"
    fit: Annotated[str, _about("Export this fit instead of the current one.", metavar="NAME")] | None = None
    restore: Annotated[bool, _about("Put back pictures that a person deleted from DEST.")] = False
    dry_run: Annotated[bool, _about("Say what would be done, and do nothing.")] = False
    undo: Annotated[bool, _about("Take back what exports put into DEST and nobody touched since.")] = False
    manifest_only: Annotated[
        bool,
        _about("Write only a table of all pictures, to the file DEST: Parquet if it ends in .parquet, else CSV."),
    ] = False
    duplicates: Annotated[
        Literal["keep-all", "separate", "keep-best"],
        _about(
            "What becomes of near-duplicates of a better picture: into their groups as all, into duplicates/, or left "
            "out and listed in DEST/duplicates.csv."
        ),
    ] = "keep-all"
    junk: Annotated[
        Literal["keep-all", "separate"],
        _about("What becomes of pictures that are likely junk: into their groups as all, or into suspects/."),
    ] = "keep-all"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.store and not self.undo:
            raise _missing("store")
        apart = [f"--{name}" for name in ("duplicates", "junk") if getattr(self, name) != "keep-all"]
        if self.manifest_only and apart:
            raise SettingsError(
                f"--manifest-only lists all pictures, with columns for what was found; leave out {' and '.join(apart)}"
            )


class DuplicatesSettings(JobSettings, frozen=True, kw_only=True):
    """Settings of `duplicates`."""

    threshold: Annotated[
        float,
        _about(
            "How much near-duplicates may differ: 1 is at the measured limits, less is stricter, 0 finds the same "
            "bytes only.",
            ge=0,
            le=4,
        ),
    ] = 1.0


class FlagSettings(JobSettings, frozen=True, kw_only=True):
    """Limits of the quality flags."""

    dark: Annotated[
        float,
        _about(
            "Flag a picture as dark if 99 % of its pixels are below this brightness, of 255; 0 flags none.",
            ge=0,
            le=255,
        ),
    ] = 82.0
    bright: Annotated[
        float,
        _about(
            "Flag a picture as bright if 95 % of its pixels are above this brightness, of 255; 255 flags none.",
            ge=0,
            le=255,
        ),
    ] = 242.0
    blurred: Annotated[
        float,
        _about(
            "Flag a picture as blurred if its sharpness is below this times the standard deviation of its brightness; "
            "0 flags none.",
            ge=0,
            le=1000,
        ),
    ] = 1.0
    low_information: Annotated[
        float,
        _about(
            "Flag a picture as low in information if its brightness histogram has less entropy, in bits; 0 flags none.",
            ge=0,
            le=8,
        ),
    ] = 2.0
    tiny: Annotated[
        int, _about("Flag a picture as tiny if its shorter side has fewer pixels; 0 flags none.", ge=0, le=100_000)
    ] = 32
    odd_aspect: Annotated[
        float,
        _about(
            "Flag a picture's shape as odd if its shorter side is less than this share of the longer; 0 flags none.",
            ge=0,
            le=1,
        ),
    ] = 0.35
    grey: Annotated[
        float,
        _about(
            "Flag pictures without colour if they are less than this share of all; 0 flags none.",
            ge=0,
            le=1,
        ),
    ] = 0.5


class JunkSettings(FlagSettings, frozen=True, kw_only=True):
    """Settings of `junk`."""

    threshold: (
        Annotated[
            float,
            _about(
                "Score above which a picture is a suspect: without marks the share of pictures that are less unlike "
                "the rest, with marks how likely it is junk.",
                ge=0,
                le=1,
                shown="0.95, with marks 0.5",
                variable="JUNK_THRESHOLD",
            ),
        ]
        | None
    ) = None


class MarkSettings(Settings, frozen=True, kw_only=True):
    """Settings of `mark`."""

    store: Store
    junk: Annotated[
        tuple[str, ...],
        _about(
            "Pictures that are junk: files, folders, or text files with a path a line.",
            metavar="PATH...",
            variable="MARK_JUNK",
        ),
    ] = ()
    keep: Annotated[tuple[str, ...], _about("Pictures that are none.", metavar="PATH...", variable="MARK_KEEP")] = ()
    forget: Annotated[
        tuple[str, ...], _about("Pictures whose marks are taken back.", metavar="PATH...", variable="MARK_FORGET")
    ] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.junk or self.keep or self.forget):
            raise SettingsError("nothing to mark; give --junk PATH, --keep PATH or --forget PATH")


class PlotSettings(JobSettings, frozen=True, kw_only=True):
    """Settings of `plot`."""

    out_dir: Annotated[str, _about("Folder to write the figures into; made if it is not there.", metavar="OUT_DIR")]
    fit: Annotated[str, _about("Plot this fit instead of the current one.", metavar="NAME")] | None = None
    force: Annotated[bool, _about("Write into a folder that holds other files, over those of the same name.")] = False


class ReportSettings(JobSettings, frozen=True, kw_only=True):
    """Settings of `report`."""

    out: Annotated[str, _about("HTML file to write.", metavar="OUT")]
    fit: Annotated[str, _about("Show this fit instead of the current one.", metavar="NAME")] | None = None
    per_group: Annotated[
        int,
        _about("Pictures of each group, half of them the most central and half the most outlying.", ge=1, le=1000),
    ] = 24
    force: Annotated[bool, _about("Write over an older report.")] = False


class StatusSettings(Settings, frozen=True, kw_only=True):
    """Settings of `status`."""

    store: Store
    rejects: Annotated[bool, _about("List every file that could not be read, with the reason.")] = False


class DemoSettings(Settings, frozen=True, kw_only=True):
    """Settings of `demo`."""

    directory: Annotated[str, _about("Folder to write the pictures into; made if it is not there.", metavar="DIR")]


class RunSettings(Settings, frozen=True, kw_only=True):
    """Settings of `run`: those of its jobs, on one store. Without `export` the pictures stay where they are."""

    ingest: IngestSettings
    fit: FitSettings
    duplicates: DuplicatesSettings | None = None
    junk: JunkSettings | None = None
    export: ExportSettings | None = None


#: Settings that are paths; in a settings file they are relative to that file's folder.
_PATHS = ("store", "sources", "drop", "dest")
#: What `run` does where the settings file has a table for it, be it empty.
_CURATING: dict[str, type[JobSettings]] = {"duplicates": DuplicatesSettings, "junk": JunkSettings}
_JOBS: dict[str, type[JobSettings]] = {
    "ingest": IngestSettings,
    "fit": FitSettings,
    **_CURATING,
    "export": ExportSettings,
}


def read_settings_file(path: str) -> dict[str, dict[str, Any]]:
    """Return the values that a TOML file gives, for each job of `run`.

    Keys above all tables (`store`, `memory`, `workers`) hold for every job; those of a table, such as `[fit]`, for one.

    Raises
    ------
    SettingsError
        The file is missing, unreadable, not TOML, or has a key that means nothing.
    """
    shared, tables = _read_tables(path)
    folder = os.path.dirname(os.path.abspath(path))
    return {
        job: {key: _anchor(key, value, folder) for key, value in (shared | tables.get(job, {})).items()}
        for job in _JOBS
    }


def _read_tables(path: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the keys above all tables of a settings file, and the tables that it has."""
    document = _read_toml(path)
    tables = {job: document.pop(job) for job in _JOBS if job in document}
    for job, model in _JOBS.items():
        for scope, values, known in ((path, document, JobSettings), (f"{path} [{job}]", tables.get(job, {}), model)):
            if not isinstance(values, dict):
                raise SettingsError(f"{path}: {job!r} must be a table, [{job}]")
            if unknown := sorted(set(values) - set(known.__struct_fields__)):
                raise SettingsError(f"{scope}: there is no setting {unknown[0]!r}")
    return document, tables


def _anchor(key: str, value: Any, folder: str) -> Any:
    if key == "features" and isinstance(value, str) and value.startswith(MODEL_PREFIX):
        return MODEL_PREFIX + str(_anchor("store", value.removeprefix(MODEL_PREFIX), folder))
    if key not in _PATHS:
        return value
    if isinstance(value, list):
        return [_anchor(key, item, folder) for item in value]
    return os.path.join(folder, os.path.expanduser(value)) if isinstance(value, str) else value


def run_settings(path: str, environment: Mapping[str, str] | None = None) -> RunSettings:
    """Return what `run` does, from a settings file, and from environment variables, which beat it.

    Raises
    ------
    SettingsError
        As `read_settings_file`, or a value cannot be used.
    """
    tables = {
        job: layered(_JOBS[job], table, environment_values(_JOBS[job], environment or {}))
        for job, table in read_settings_file(path).items()
    }
    asked_for = _read_tables(path)[1].keys() & _CURATING
    curating: dict[str, Any] = {job: _CURATING[job].from_mapping(tables[job]) for job in asked_for}
    export = tables["export"]
    return RunSettings(
        ingest=IngestSettings.from_mapping(tables["ingest"]),
        fit=FitSettings.from_mapping(tables["fit"]),
        **curating,
        export=ExportSettings.from_mapping(export) if "dest" in export else None,
    )


def _read_toml(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"{path}: cannot read the settings file ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None
