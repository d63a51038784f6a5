"""The command ``imgtofmri``: its subcommands, and how errors end it."""

from __future__ import annotations

import functools
import io
import os
import platform
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated, get_type_hints

import typer

from imgtofmri import __version__
from imgtofmri.cli.backbones import backbones, list_backbones, show_backbone
from imgtofmri.cli.codes import (
    ALL_FAILED,
    DONE,
    FAILED,
    INTERRUPTED,
    PARTIAL,
    USAGE,
    in_options,
)
from imgtofmri.cli.command import Command, Group
from imgtofmri.cli.contrast import contrast
from imgtofmri.cli.demo import demo
from imgtofmri.cli.describe import describe
from imgtofmri.cli.distill import distill
from imgtofmri.cli.dynamics import dynamics
from imgtofmri.cli.explain import explain
from imgtofmri.cli.export import export
from imgtofmri.cli.fetch import fetch
from imgtofmri.cli.fit import fit
from imgtofmri.cli.layers import layers
from imgtofmri.cli.merge import merge
from imgtofmri.cli.power import power
from imgtofmri.cli.predict import predict
from imgtofmri.cli.render import render
from imgtofmri.cli.report import report
from imgtofmri.cli.rsa import rsa
from imgtofmri.cli.say import say
from imgtofmri.cli.select import select
from imgtofmri.cli.serve import serve
from imgtofmri.cli.simulate import simulate
from imgtofmri.cli.validate import validate
from imgtofmri.exceptions import ImgToFmriError, OptionError
from imgtofmri.invocation import COMMAND_LINE
from imgtofmri.versions import FILES, NUMBERS, OPTIONAL, versions

EXIT_CODES = {
    DONE: "all is done",
    FAILED: "nothing could be done",
    USAGE: "bad usage, nothing was started",
    PARTIAL: "some inputs failed, the rest is done",
    ALL_FAILED: "all inputs failed",
    INTERRUPTED: "interrupted, what was written is whole",
}

_ENDING = ("SIGTERM", "SIGHUP", "SIGQUIT", "SIGXCPU", "SIGUSR1", "SIGUSR2")

app = typer.Typer(
    name="imgtofmri",
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    epilog="Start with `imgtofmri demo`, then `imgtofmri predict photos/ -o out/`.\n\n"
    "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + ".",
)


def ends_well(command: Callable[..., int | None]) -> Callable[..., None]:
    """Turn what a command returns or raises into a line for the user and an exit code."""

    @functools.wraps(command)
    def run(*arguments: object, **options: object) -> None:
        warnings.showwarning = _show_warning
        # What Pillow minds in files that it can read names no file, and changes no pixel.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            code = command(*arguments, **options) or DONE
        except KeyboardInterrupt:
            _say("interrupted; what was written is whole")
            code = INTERRUPTED
        except ImgToFmriError as error:
            _say(in_options(error, _options(command)))
            code = USAGE if isinstance(error, OptionError) else FAILED
        except BrokenPipeError:
            # The reader of our output (head, less) has left; Python would complain at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = FAILED
        except OSError as error:
            code = _refused(error)
        except MemoryError as error:
            reason = f" ({error})" if str(error) else ""
            _say(f"expected memory for what was asked; there is too little{reason}. Ask for less.")
            code = FAILED
        raise typer.Exit(code)

    return run


for command in (
    predict,
    merge,
    export,
    simulate,
    power,
    dynamics,
    validate,
    rsa,
    contrast,
    select,
    explain,
    render,
    fit,
    layers,
    distill,
    report,
    serve,
    demo,
    fetch,
    describe,
):
    app.command(cls=Command)(ends_well(command))
backbones.command("list", cls=Command)(ends_well(list_backbones))
backbones.command("show", cls=Command)(ends_well(show_backbone))
app.add_typer(backbones)


def _show_version(wanted: bool) -> None:
    if wanted:
        say(__version__)
        for name, said in versions([*NUMBERS, *FILES, *OPTIONAL]).items():
            say(f"{name} {said}")
        say(f"{platform.system()} {platform.machine()}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show all versions."),
    ] = False,
) -> None:
    """Predict the group-level fMRI response of human visual cortex to images and movies."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name. None takes them from ``sys.argv``.

    Returns
    -------
    int
        One of `EXIT_CODES`.
    """
    return run_program("imgtofmri", app, arguments)


def run_program(name: str, program: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Run a program whose commands are wrapped in `ends_well`, and return its exit code.

    Parameters
    ----------
    name : str
        What records call it.
    program : typer.Typer
    arguments : sequence of str, optional
        Without the program's name. None takes them from ``sys.argv``.

    Returns
    -------
    int
        One of `EXIT_CODES`.
    """
    _open_standard_streams()
    given = sys.argv[1:] if arguments is None else list(arguments)
    told = COMMAND_LINE.set(shlex.join([name, *given]))
    try:
        with _termination_interrupts():
            # By one name, so that what completes commands is the same however they are started.
            _built(program)(args=given, prog_name=name)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else FAILED
    except OSError as error:  # of what Typer installs for shells
        return _refused(error)
    finally:
        COMMAND_LINE.reset(told)
    return DONE


@functools.cache
def _built(program: typer.Typer) -> Callable[..., object]:
    """Return the program with its options read from its functions' annotations, once a process."""
    return typer.main.get_command(program)


def _open_standard_streams() -> None:
    """Let nothing fail for want of standard streams, nor for names that are no text.

    A caller can close them. The next file to be opened would then have the number of one, and what
    libraries write there, as they do about films, would get into it.
    """
    number = os.open(os.devnull, os.O_RDWR)
    while number <= 2:
        number = os.open(os.devnull, os.O_RDWR)
    os.close(number)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123
            setattr(sys, name, stream)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """Have signals that would end the process leave whole files behind, as Ctrl-C does.

    SIGTERM ends a cluster's job; SIGUSR1, SIGUSR2 and SIGXCPU say that its time is nearly up;
    SIGHUP comes when the terminal is closed. What the caller ignores (nohup) is left so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread may say what a signal does.
        return
    known = [getattr(signal, name) for name in _ENDING if hasattr(signal, name)]
    ours = [one for one in known if signal.getsignal(one) is signal.SIG_DFL]
    for one in ours:
        signal.signal(one, signal.default_int_handler)
    try:
        yield
    finally:
        for one in ours:
            signal.signal(one, signal.SIG_DFL)


def _options(command: Callable[..., object]) -> dict[str, str]:
    """Return the option of each parameter that has one, such as ``--n`` of n_per_set."""
    found = {}
    for name, hint in get_type_hints(command, include_extras=True).items():
        for said in getattr(hint, "__metadata__", ()):
            if not isinstance(said, typer.models.OptionInfo):
                continue
            # The first word of an annotation's Option stands where its default would.
            words = map(str, (said.default, *(said.param_decls or ())))
            named = [word.partition("/")[0] for word in words if word.startswith("--")]
            found[name] = named[0] if named else f"--{name.replace('_', '-')}"
    return found


def _refused(error: OSError) -> int:
    """Say what is not ours: files and folders that only the operating system knows to be closed."""
    file = error.filename or "its files"
    expected = "expected a file or folder that may be read and written"
    reason = error.strerror or str(error)
    _say(f"{file}: {expected}; got: {reason}. Check its name and permissions.")
    return FAILED


def _say(line: str) -> None:
    with suppress(OSError):  # Nobody may be there to read it.
        say(f"imgtofmri: {line}", err=True)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Show a warning as one line: where in the code it arose is of no use to a user."""
    _say(f"note: {message}")
