"""`serve`: an encoder on a socket of this computer, until it is told to stop."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from imgtofmri.exceptions import MissingDependencyError, OptionError, OutputError
from imgtofmri.owners import is_abandoned, new_part
from imgtofmri.serve.limits import Limits

if TYPE_CHECKING:
    from imgtofmri.encoder import Encoder, Settings

HOST, PORT = "127.0.0.1", 8000

NEEDED = {"starlette": "starlette", "uvicorn": "uvicorn", "python_multipart": "python-multipart"}
"""Modules of the extra ``[serve]``, and what their packages are called."""

_MOST_CONNECTIONS = 512
_MOST_HEADER_BYTES = 32_768
_STOP_S = 3


def serve(
    load: Callable[[], Encoder],
    settings: Settings | None = None,
    *,
    host: str = HOST,
    port: int = PORT,
    limits: Limits | None = None,
    show: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve predictions to browsers until SIGINT or SIGTERM.

    What is sent and what is made lie in a private temporary folder, which is removed at the end.

    Parameters
    ----------
    load : callable
        Gives the encoder; called when it is known that the address can be had.
    settings : Settings, optional
        Those of jobs that ask for no others.
    host : str
        Name or address of this computer to listen on.
    port : int
        0 takes any that is free.
    limits : Limits, optional
    show : bool
        Whether to open the page in the user's browser.
    say : callable
        Called with lines for the user.

    Raises
    ------
    MissingDependencyError
        If the extra ``[serve]`` is not installed.
    OptionError
        If the host is none of this computer's, or the port cannot be had.
    """
    need_packages()
    limits = limits or Limits()
    with _listening(host, port) as listener:
        encoder = load()
        with _private_folder() as folder:
            _run(folder, listener, host, encoder, settings, limits, show, say)
    say("stopped; what was sent and made is removed")


def need_packages() -> None:
    """Refuse to go on without the extra ``[serve]``.

    Raises
    ------
    MissingDependencyError
    """
    missing = [package for module, package in NEEDED.items() if find_spec(module) is None]
    if missing:
        message = (
            f"serve: expected the packages {', '.join(NEEDED.values())}; not installed: "
            f"{', '.join(missing)}. Install them with pip install 'imgtofmri[serve]'."
        )
        raise MissingDependencyError(message)


def _run(
    folder: Path,
    listener: socket.socket,
    host: str,
    encoder: Encoder,
    settings: Settings | None,
    limits: Limits,
    show: bool,
    say: Callable[[str], None],
) -> None:
    import uvicorn

    from imgtofmri.encoder import Settings
    from imgtofmri.serve.app import About, make_app
    from imgtofmri.serve.jobs import Jobs
    from imgtofmri.serve.work import Choices, make_work

    chosen = settings or Settings()
    # What a job would fail of, such as weights that are missing, is said before any is taken.
    predictor = encoder.predictor(chosen)
    resolved = predictor.settings
    spec = predictor.extractor.network.spec
    choices = Choices(encoder.rois, tuple(resolved.rois or ()), resolved.average, limits)
    verified = "" if spec.weights_verified else ", not the published weights"
    about = About(
        str(encoder.card["id"]),
        str(encoder.card.get("title", "")),
        f"{spec.id} ({spec.weights_name}{verified})" + (f"; {spec.note}" if spec.note else ""),
        encoder.subjects,
    )
    # What is wrong with a form is told to whoever sent it; it would fill the terminal besides.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    jobs = Jobs(folder, make_work(encoder, chosen), limits)
    try:
        names = {host, socket.gethostname()} if not _is_loopback(host) else {host}

        def stopping() -> bool:
            return bool(server.should_exit)

        app = make_app(jobs, choices, about, limits, names, stopping)
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_CONNECTIONS,
            h11_max_incomplete_event_size=_MOST_HEADER_BYTES,
            timeout_graceful_shutdown=_STOP_S,
        )
        server = uvicorn.Server(config)
        address = _address(host, listener)
        # From the moment that the address is said, being stopped is how a server ends.
        with suppress(KeyboardInterrupt), _hanging_up_ends():
            say(f"serving {about.id} at {address} (Ctrl-C stops)")
            if not _is_loopback(host):
                say(f"note: whoever reaches {host} can send files here and have them predicted")
            if show:
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
            server.run(sockets=[listener])
    finally:
        jobs.close()


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Bind the address before anything is loaded for it."""
    if not 0 <= port <= 65535:
        raise _no_port(port, "ports are from 0 to 65535")
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        message = (
            f"host must be a name or address of this computer; got {host!r}, which is not known "
            f"({error}). Leave it out to be reached from this computer only."
        )
        raise OptionError(message, "host") from error
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(where)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                message = (
                    f"host must be a name or address of this computer; got {host!r}. Leave it out "
                    "to be reached from this computer only."
                )
                raise OptionError(message, "host") from error
            raise _no_port(port, error.strerror or str(error)) from error
        listener.listen(128)
        yield listener
    finally:
        listener.close()


def _no_port(port: int, reason: str) -> OptionError:
    message = (
        f"port must be one that is free and may be used; got {port} ({reason}). Choose another, or "
        "0 for any."
    )
    return OptionError(message, "port")


@contextmanager
def _private_folder() -> Iterator[Path]:
    """Make a folder for this user alone, and remove it and what killed servers left of theirs."""
    try:
        place = Path(tempfile.gettempdir())
        for left in place.glob(".imgtofmri-*.part"):
            if is_abandoned(left) and left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
        folder = new_part(place)
        folder.mkdir(mode=0o700)
    except OSError as error:
        message = (
            f"cannot make a temporary folder: {error.strerror or error}. Make room, or set TMPDIR "
            "to a folder that you may write to."
        )
        raise OutputError(message) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host.lower() == "localhost"


def _address(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"


@contextmanager
def _hanging_up_ends() -> Iterator[None]:
    """Have the end of a terminal stop the server as SIGTERM does, so that files are removed."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not hasattr(signal, "SIGHUP"):
        yield
        return
    before = signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
