"""Shells complete commands and options: what is shown for them is tried in them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).parent / "imgtofmri"

TRIED = {
    # What a press of the tabulator calls, with the words so far.
    "bash": """
        eval "$(imgtofmri --show-completion)"
        complete -p imgtofmri >&2
        COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _imgtofmri_completion imgtofmri
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """,
    # Completions belong to zsh's line editor: its own builtin is asked which words it was given.
    "zsh": """
        autoload -Uz compinit && compinit -D
        eval "$(imgtofmri --show-completion)"
        print -u2 -- $_comps[imgtofmri]
        words=({words}); CURRENT=${{#words}}
        _arguments() {{ print -r -- "$1" | grep -oE '"[a-z-]+":"' | tr -d '":' }}
        _files() {{ print -- files }}
        _imgtofmri_completion
    """,
    "fish": """
        imgtofmri --show-completion | source
        complete -C "{words}" | string split -f 1 \\t
    """,
}


@pytest.fixture(params=list(TRIED))
def shell(request: pytest.FixtureRequest) -> str:
    """Return the name of a shell; skip where it is not installed."""
    if shutil.which(request.param) is None:
        pytest.skip(f"needs {request.param}: it is not on the PATH")
    if not PROGRAM.exists():
        pytest.skip("needs the package installed: there is no program beside this Python")
    return str(request.param)


def _completed(shell: str, words: str, home: Path) -> list[str]:
    """Return what a shell offers for the last of some words."""
    path = f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"
    script = TRIED[shell].format(words=words)
    options = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    result = subprocess.run(
        [shutil.which(shell) or shell, *options, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=home,
        env=os.environ | {"PATH": path, "HOME": str(home)},
    )
    assert "Traceback" not in result.stderr
    return result.stdout.split()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("imgtofmri pre", ["predict"]),
        ("imgtofmri predict --av", ["--average"]),
        ("imgtofmri backbones sh", ["show"]),
    ],
)
def test_shell_offers_commands_and_options(
    shell: str, words: str, offered: list[str], tmp_path: Path
) -> None:
    """The script that is shown for the shell that asks completes in that shell."""
    assert _completed(shell, words, tmp_path) == offered


def test_installed_completion_is_kept_beside_what_is_there(tmp_path: Path) -> None:
    """The shell's own settings stay, however often it is installed."""
    home = {"HOME": str(tmp_path), "PATH": f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"}
    (tmp_path / ".bashrc").write_text("alias ll='ls -l'\n", encoding="utf-8")
    for _ in range(2):
        command = ["bash", "--norc", "-c", "imgtofmri --install-completion; exit $?"]
        subprocess.run(command, capture_output=True, check=True, env=os.environ | home)
    lines = (tmp_path / ".bashrc").read_text("utf-8").split("\n")
    assert lines[0] == "alias ll='ls -l'"
    (source,) = filter(None, lines[1:])
    assert source == f"source '{tmp_path}/.bash_completions/imgtofmri.sh'"


def test_completion_that_cannot_be_installed_is_one_clear_error(tmp_path: Path) -> None:
    """A home that is a file gets one line, and no traceback."""
    (tmp_path / "file").touch()
    home = {"HOME": str(tmp_path / "file")}
    command = ["bash", "--norc", "-c", f"'{PROGRAM}' --install-completion; exit $?"]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | home)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "expected a file or folder that may be read and written; got:" in result.stderr
