"""The command line: a thin layer that turns options into settings, calls a job and prints its report.

Options are made from the settings models in `config.py`, so that a setting is written down once. Precedence: option,
environment (`STREAMCLUSTER_…`), settings file, default. Heavy libraries are imported when a job starts, which keeps
`--help` instant.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import inspect
import json
import logging
import os
import signal
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TextIO, get_args, get_origin

import msgspec
import typer
from typer.core import TyperCommand

from streamcluster import config
from streamcluster.config import Settings
from streamcluster.errors import Interrupted, SettingsError, StoreBusyError, StreamclusterError
from streamcluster.runtime.memory import settle_allocator
from streamcluster.runtime.progress import Progress

if TYPE_CHECKING:
    from streamcluster.console import StageLog

EXIT_ERROR, EXIT_USAGE, EXIT_BUSY = 1, 2, 75

_STOPPING = "stopping at the next commit; the same signal again ends at once"
_ENDED = "ended at once; what was committed stands"

app = typer.Typer(
    help="Group any number of collected pictures into folders of look-alikes, on a fixed amount of memory.",
    epilog="Example: streamcluster ingest ~/faces --store faces.zarr && streamcluster fit --store faces.zarr",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@dataclass(frozen=True, slots=True)
class Output:
    """How a command talks, beside what it does."""

    json: bool
    quiet: bool
    verbose: bool
    log_file: str | None


@dataclass(frozen=True, slots=True)
class Option:
    """A setting as the command line offers it: how it is written, what it means, what holds without it."""

    field: str
    variable: str
    metavar: str
    help: str
    default: str
    kind: Any

    @property
    def flag(self) -> str:
        """The option, such as `--image-size`."""
        return config.option_name(self.field)

    @property
    def is_argument(self) -> bool:
        """Whether it is given by its place instead of its name."""
        return self.field in config.ARGUMENTS


class Command(TyperCommand):
    """A command whose help calls an argument by its name; typer adds the Python type, such as `<list[str]>`."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write what `get_help_record` tells of the arguments, then of the options."""
        for kind, title in (("argument", "Arguments"), ("option", "Options")):
            told = [param.get_help_record(ctx) for param in self.get_params(ctx) if param.param_type_name == kind]
            records = [
                (name.partition(" <")[0] if kind == "argument" else name, about) for name, about in filter(None, told)
            ]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class RepeatingCommand(Command):
    """A command whose list options take all up to the next option, as a shell writes out `--junk *.jpg`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Write each list option out before each of its values, which is what typer reads."""
        lists = {name for param in self.get_params(ctx) if param.multiple for name in param.opts}
        return super().parse_args(ctx, repeat_options(args, lists))


def repeat_options(args: list[str], lists: Container[str]) -> list[str]:
    """Return arguments with each of the `lists` options before each of its values.

    >>> repeat_options(["--junk", "a", "b", "--store", "s", "--keep=c", "d"], {"--junk", "--keep"})
    ['--junk', 'a', '--junk', 'b', '--store', 's', '--keep=c', '--keep', 'd']
    """
    repeated: list[str] = []
    current, fresh = None, False
    for arg in args:
        if arg.startswith("-") and arg != "-":
            name = arg.partition("=")[0]
            current, fresh = (name if name in lists else None), arg == name
        elif current is not None and not fresh:
            repeated.append(current)
        else:
            fresh = False
        repeated.append(arg)
    return repeated


def options_of(model: type[Settings]) -> list[Option]:
    """Return the options that a settings model stands for."""
    return [_option(field) for field in msgspec.structs.fields(model)]


def _option(field: msgspec.structs.FieldInfo) -> Option:
    kind, about = config.annotation_of(field)
    extra = about.extra or {}
    choices = "|".join(get_args(kind)) if get_origin(kind) is Literal else ""
    metavar = choices or extra["metavar"] or {int: "N", float: "RATIO"}.get(kind, "")
    has_default = field.default not in (None, False, "", (), msgspec.NODEFAULT)
    default = extra["shown"] or (str(field.default) if has_default else "")
    offered = bool if kind is bool else list[str] if config.takes_many(kind) else str
    return Option(field.name, config.variable_name(field), metavar, about.description or "", default, offered)


def _parameter(option: Option) -> inspect.Parameter:
    """Return the option as a parameter that typer understands; its value is checked by the settings model."""
    about = f"{option.help}  [env var: {option.variable}]"
    if option.is_argument:
        info = typer.Argument(metavar=option.metavar, help=about, show_default=False)
    else:
        info = typer.Option(
            f"{option.flag}/" if option.kind is bool else option.flag,
            metavar=option.metavar or None,
            help=about,
            show_default=option.default or False,
        )
    annotation: Any = Annotated[option.kind | None, info]
    return inspect.Parameter(option.field, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


Json = Annotated[bool, typer.Option("--json", help="Print the report as one JSON object, and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Tell about each rejected file and each stage.")]
LogFile = Annotated[str | None, typer.Option("--log-file", metavar="FILE", help="Append a dated log to this file.")]
ConfigFile = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE", envvar="STREAMCLUSTER_CONFIG", help="Take settings from this TOML file."),
]
_OUTPUT = {"json": Json, "quiet": Quiet, "verbose": Verbose, "log_file": LogFile}


def _command(name: str, model: type[Settings], example: str, about: str, cls: type[Command] = Command) -> None:
    """Add a command whose options are a settings model's, and whose job is the function of its name in its module."""

    def call(**given: Any) -> None:
        output = Output(**{field: given.pop(field) for field in _OUTPUT})
        path = given.pop("config", None)
        run_job(name, lambda: model.from_mapping(_gather(name, model, given, path)), output)

    shared: dict[str, Any] = _OUTPUT if model is config.DemoSettings else {"config": ConfigFile} | _OUTPUT
    _register(name, call, [_parameter(option) for option in options_of(model)], shared, example, about, cls)


def _register(
    name: str,
    call: Callable[..., None],
    parameters: list[inspect.Parameter],
    shared: dict[str, Any],
    example: str,
    about: str,
    cls: type[Command] = Command,
) -> None:
    parameters = parameters + [
        inspect.Parameter(
            field,
            inspect.Parameter.KEYWORD_ONLY,
            default=False if field in ("json", "quiet", "verbose") else None,
            annotation=annotation,
        )
        for field, annotation in shared.items()
    ]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app.command(name, cls=cls, help=about, epilog=f"Example: {example}")(call)


def _gather(name: str, model: type[Settings], given: dict[str, Any], path: str | None) -> dict[str, Any]:
    """Return the settings of one job: what the file says, below what the environment says, below the options."""
    named = {field: value for field, value in given.items() if value not in (None, [])}
    return config.layered(model, _file_values(name, path), config.environment_values(model, os.environ), named)


def _file_values(name: str, path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    tables = config.read_settings_file(path)
    return tables.get(name, {key: value for key, value in tables["fit"].items() if key == "store"})


def run_job(name: str, make_settings: Callable[[], Settings], output: Output) -> None:
    """Run a job as the command line does: settings, lines on a terminal, one report, one exit code."""
    from streamcluster import console

    level = logging.ERROR if output.quiet or output.json else logging.DEBUG if output.verbose else logging.INFO
    with contextlib.ExitStack() as stack:
        stderr = stack.enter_context(console.standard_error(silence_libraries=not output.verbose))
        with_bars = level == logging.INFO and stderr.isatty()
        stack.enter_context(console.logging_to(stderr, logging.WARNING if with_bars else level))
        progress = console.StageBars(stderr) if with_bars else console.StageLog(stderr)
        stack.enter_context(_stopping_on_signals(progress, quiet=level == logging.ERROR))
        try:
            if output.log_file is not None:
                stack.enter_context(console.logging_into(output.log_file))
            settings = make_settings()
            console.outcome.info("%s: %s", name, settings)
            _print_report(_do_job(name, settings, progress), output)
        except StreamclusterError as error:
            _fail(error, output, stderr)
        except Exception:
            console.outcome.exception("%s failed", name)
            raise


def _do_job(name: str, settings: Settings, progress: Progress) -> Any:
    job = getattr(import_module(f"streamcluster.jobs.{name}"), name)
    gc.freeze()
    gc.enable()
    settle_allocator()
    return job(settings, progress=progress)


def _print_report(report: Any, output: Output) -> None:
    from streamcluster import console

    lines = console.summarize(report)
    for line in lines:
        console.outcome.info("%s", line)
    if output.json:
        console.print_out(json.dumps(dataclasses.asdict(report)))
    elif not output.quiet:
        console.print_out("\n".join(lines))


def _fail(error: StreamclusterError, output: Output, stderr: TextIO) -> NoReturn:
    """Say what went wrong in one line, and end with the code for it."""
    from streamcluster import console

    code = exit_code(error)
    line = " ".join(str(error).splitlines())
    console.outcome.error("%s", line)
    print(f"streamcluster: {line}", file=stderr)
    if output.json:
        with contextlib.suppress(StreamclusterError):
            console.print_out(json.dumps({"error": line, "kind": type(error).__name__, "exit_code": code}))
    raise typer.Exit(code)


def exit_code(error: StreamclusterError) -> int:
    """Return what the process ends with: 1, but 2 for settings, 75 for a busy store, 128 + signal for a stop."""
    if isinstance(error, Interrupted):
        return 128 + error.signal_number
    if isinstance(error, StoreBusyError):
        return EXIT_BUSY
    return EXIT_USAGE if type(error) is SettingsError else EXIT_ERROR


@contextmanager
def _stopping_on_signals(progress: StageLog, *, quiet: bool) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM ask for a stop at the next commit, and a second one end at once."""

    def ask(number: int, _frame: object) -> None:
        at_once = progress.stop_requested
        progress.stop_signal = number
        if not quiet:
            progress.interject(f"streamcluster: {_ENDED if at_once else _STOPPING}")
        if at_once:
            os._exit(128 + number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        # Asked to stop, the process is about to end: until then another signal still ends it at once, with its code.
        if not progress.stop_requested:
            for number, handler in before.items():
                signal.signal(number, handler)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"streamcluster {version('streamcluster')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take what stands before the command."""


_command(
    "ingest",
    config.IngestSettings,
    "streamcluster ingest ~/faces ~/scans --store faces.zarr",
    "Bring a store up to date with folders of pictures: decode what is new or changed, note what is gone.",
)
_command(
    "fit",
    config.FitSettings,
    "streamcluster fit --store faces.zarr --clusters 50",
    "Group the pictures of a store by look.",
)
_command(
    "export",
    config.ExportSettings,
    "streamcluster export ~/faces-grouped --store faces.zarr",
    "Put each picture into the folder of its group, and keep what a person changed there.",
)
_command(
    "duplicates",
    config.DuplicatesSettings,
    "streamcluster duplicates --store faces.zarr",
    "Find pictures that are there twice: the same bytes, or the same picture in another size, crop, format or light.",
)
_command(
    "junk",
    config.JunkSettings,
    "streamcluster junk --store faces.zarr",
    "Find pictures and groups that are unlike the rest, or like what was marked as junk; flag what is dark, blurred, …",
)
_command(
    "mark",
    config.MarkSettings,
    "streamcluster mark --store faces.zarr --junk bad/*.jpg --keep good/",
    "Say which pictures are junk and which are not, for junk to learn from.",
    cls=RepeatingCommand,
)
_command(
    "plot",
    config.PlotSettings,
    "streamcluster plot plots --store faces.zarr",
    "Draw a fit: explained variance, scatter of the scores, a map of all pictures, the groups and their tree.",
)
_command(
    "report",
    config.ReportSettings,
    "streamcluster report faces.html --store faces.zarr",
    "Write one HTML file that shows groups, duplicates, suspects, rejects and a map, and opens with no network.",
)
_command(
    "status",
    config.StatusSettings,
    "streamcluster status --store faces.zarr",
    "Tell what is in a store, what waits, and how large it is.",
)
_command(
    "demo",
    config.DemoSettings,
    "streamcluster demo digits && streamcluster ingest digits --store digits.zarr",
    "Write 1,797 real pictures of handwritten digits for a first run.",
)


def _run(path: str, **given: Any) -> None:
    run_job("run", lambda: config.run_settings(path, os.environ), Output(**given))


_register(
    "run",
    _run,
    [
        inspect.Parameter(
            "path",
            inspect.Parameter.KEYWORD_ONLY,
            annotation=Annotated[str, typer.Argument(metavar="CONFIG", help="TOML file with the settings.")],
        )
    ],
    _OUTPUT,
    "streamcluster run configs/faces.toml",
    "Ingest, fit, look for near-duplicates and junk, and export under one lock, as a settings file says: for cron.",
)
