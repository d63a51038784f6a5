"""Finding stimuli: what counts, in which order, under which names."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path

import pytest

from imgtofmri.exceptions import OptionError
from imgtofmri.stimuli import (
    IMAGE_SUFFIXES,
    MOVIE_SUFFIXES,
    StimulusWarning,
    find_sources,
    unique_names,
)


def touch(folder: Path, *names: str) -> list[Path]:
    """Make files with one byte; discovery never opens them."""
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return paths


def names_of(*inputs: str | Path) -> list[str]:
    """Return the names that are found, where nothing may fail."""
    sources, failures = find_sources(inputs)
    assert failures == []
    return [source.name for source in sources]


def test_find_sources_folder_takes_stimuli_in_natural_order(tmp_path: Path) -> None:
    """Numbers count by value, case of suffixes does not matter, and folders are not descended."""
    touch(tmp_path, "img10.jpg", "img9.PNG", "img1.jpeg", "clip.MP4", "deeper/x.jpg")
    assert names_of(tmp_path) == ["clip.MP4", "img1.jpeg", "img9.PNG", "img10.jpg"]
    assert [source.kind for source in find_sources([tmp_path])[0]] == ["movie"] + ["image"] * 3


def test_find_sources_folder_passes_over_other_and_hidden_files(tmp_path: Path) -> None:
    """Sidecars, notes and hidden files in a folder are no failures."""
    touch(tmp_path, "a.jpg", "a.json", "README", ".DS_Store", "._a.jpg", ".hidden.png", "notes.txt")
    assert names_of(tmp_path) == ["a.jpg"]


@pytest.mark.parametrize("suffix", [*IMAGE_SUFFIXES, *MOVIE_SUFFIXES])
def test_find_sources_every_suffix_counts_in_any_case(tmp_path: Path, suffix: str) -> None:
    """Each listed suffix is found, in capitals too."""
    touch(tmp_path, f"a{suffix}", f"b{suffix.upper()}")
    assert names_of(tmp_path) == [f"a{suffix}", f"b{suffix.upper()}"]


def test_find_sources_keeps_order_of_inputs_and_counts_each_file_once(tmp_path: Path) -> None:
    """Inputs keep their order; a file that is reached again, also by a link, counts once."""
    first, second = touch(tmp_path, "b.jpg", "a.jpg")
    (tmp_path / "link").symlink_to(tmp_path)
    unnormal = tmp_path / "." / "x" / ".." / "a.jpg"
    (tmp_path / "x").mkdir()
    again = tmp_path / "link"
    with pytest.warns(StimulusWarning, match="2 of 5 inputs name a file that an earlier one names"):
        assert names_of(first, tmp_path, unnormal, str(second), again) == ["b.jpg", "a.jpg"]


def test_find_sources_tells_of_files_that_are_named_again(tmp_path: Path) -> None:
    """A list of trials has fewer results than rows: silence would put them beside others."""
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    trials = [tmp_path / name for name in ("a.jpg", "b.jpg", "a.jpg", "a.jpg")]
    said = r"^2 of 4 inputs name a file that an earlier one names.*a\.jpg"
    with pytest.warns(StimulusWarning, match=said):
        sources, _ = find_sources(trials)
    assert [source.name for source in sources] == ["a.jpg", "b.jpg"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        find_sources([tmp_path, tmp_path / "*.jpg"])


def test_find_sources_links_to_one_file_are_stimuli_of_their_own_names(tmp_path: Path) -> None:
    """As in git-annex, which keeps files of equal content once, and links to it."""
    (kept,) = touch(tmp_path, "annex/MD5E-s4--1.jpg")
    stimuli = tmp_path / "stimuli"
    stimuli.mkdir()
    for name in ("blank_1.jpg", "blank_2.jpg", "blank_10.jpg"):
        (stimuli / name).symlink_to(kept)
    assert names_of(stimuli) == ["blank_1.jpg", "blank_2.jpg", "blank_10.jpg"]


def test_find_sources_globs(tmp_path: Path) -> None:
    """A glob takes what matches, without folders; two stars descend."""
    touch(tmp_path, "a.jpg", "b.png", "notes.txt", "in/c.jpg", "in/deep/d.jpg", "in/.e.jpg")
    assert names_of(f"{tmp_path}/*.jpg") == ["a.jpg"]
    assert names_of(f"{tmp_path}/*") == ["a.jpg", "b.png"]
    assert names_of(f"{tmp_path}/**") == ["a.jpg", "b.png", "c.jpg", "d.jpg"]
    assert names_of(f"{tmp_path}/**/?.jpg") == ["a.jpg", "c.jpg", "d.jpg"]


def test_find_sources_existing_name_with_brackets_is_no_pattern(tmp_path: Path) -> None:
    """A file whose name looks like a glob is that file."""
    touch(tmp_path, "a[1].jpg", "a1.jpg", "what?.jpg")
    assert names_of(tmp_path / "a[1].jpg", tmp_path / "what?.jpg") == ["a[1].jpg", "what?.jpg"]


def test_find_sources_unicode_spaces_and_newlines(tmp_path: Path) -> None:
    """Any name works; what cannot stand on one line of text becomes an underscore in the output."""
    touch(tmp_path, "münchen 猫.jpg", "two\nlines.png")
    assert names_of(tmp_path) == ["münchen 猫.jpg", "two_lines.png"]
    undecodable = os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.jpg")
    Path(undecodable).write_bytes(b"x")
    assert names_of(undecodable) == ["bad_.jpg"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.jpg", "missing.jpg', which does not exist.*spelling"),
        ("notes.txt", r"notes.txt', whose suffix is not one that counts.*\.jpg .*\.mp4"),
        ("broken.jpg", "broken.jpg', a link to a file that does not exist.*Mend"),
        ("folder.jpg", "folder.jpg', which is a folder and holds none"),
        ("nul\0byte.jpg", "nul_byte.jpg', which does not exist"),
        ("no\nsuch.jpg", "no_such.jpg', which does not exist"),
    ],
)
def test_find_sources_bad_file_is_one_failure_and_the_rest_is_found(
    tmp_path: Path, name: str, message: str
) -> None:
    """A file that cannot be used gives one line that names it, and the others are found."""
    touch(tmp_path, "good.jpg", "notes.txt")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "folder.jpg").mkdir()
    sources, failures = find_sources([tmp_path / name, tmp_path / "good.jpg"])
    assert [source.name for source in sources] == ["good.jpg"]
    assert len(failures) == 1
    with pytest.raises(ValueError, match=message):
        raise failures[0].error
    assert "\n" not in str(failures[0].error)
    assert "\n" not in failures[0].name


def test_find_sources_folder_and_dead_link_among_the_files_of_a_folder(tmp_path: Path) -> None:
    """In a folder, a folder or dead link with an image's suffix is a failure, not passed over."""
    touch(tmp_path, "good.jpg")
    (tmp_path / "sub.png").mkdir()
    (tmp_path / "loop.gif").symlink_to(tmp_path / "loop.gif")
    sources, failures = find_sources([tmp_path])
    assert [source.name for source in sources] == ["good.jpg"]
    assert [Path(failure.name).name for failure in failures] == ["loop.gif", "sub.png"]


def test_find_sources_closed_folder_is_a_failure(tmp_path: Path) -> None:
    """A folder that may not be listed is named, and the rest is found."""
    closed = tmp_path / "closed"
    touch(tmp_path, "good.jpg", "closed/a.jpg")
    closed.chmod(0)
    if os.geteuid() == 0:
        # Root reads everything; another user may not. The others on the way must let it through.
        tmp_path.chmod(0o755)
        for parent in tmp_path.parents:
            if Path(tempfile.gettempdir()) in parent.parents:
                parent.chmod(0o755)
        os.seteuid(65534)
        try:
            sources, failures = find_sources([closed, tmp_path / "good.jpg"])
        finally:
            os.seteuid(0)
    else:
        sources, failures = find_sources([closed, tmp_path / "good.jpg"])
    closed.chmod(0o755)
    assert [source.name for source in sources] == ["good.jpg"]
    assert "cannot be listed (Permission denied)" in str(failures[0].error)


@pytest.mark.parametrize("glob_too", [False, True])
def test_find_sources_nothing_found_lists_suffixes(tmp_path: Path, glob_too: bool) -> None:
    """An empty folder, or a pattern without matches, is a usage error that lists what counts."""
    touch(tmp_path, "notes.txt")
    entry = f"{tmp_path}/*" if glob_too else tmp_path
    with pytest.raises(OptionError, match=r"got the (folder|pattern) '.*\.jpg .*\.mp4"):
        find_sources([entry])


def test_find_sources_no_inputs_is_a_usage_error() -> None:
    """Nothing to do is said."""
    with pytest.raises(OptionError, match="at least one file, folder or glob"):
        find_sources([])


def test_find_sources_takes_one_path(tmp_path: Path) -> None:
    """A single path is not taken apart into letters."""
    touch(tmp_path, "a.jpg")
    assert [source.name for source in find_sources(str(tmp_path))[0]] == ["a.jpg"]


def test_unique_names_same_stem_keeps_suffix() -> None:
    """Pictures that differ only in suffix have different names without any folder."""
    assert unique_names([Path("x/a.jpg"), Path("x/a.png")]) == ["a.jpg", "a.png"]


def test_unique_names_uses_as_many_folders_as_needed() -> None:
    """Shared names begin with the folders that tell them apart, no more."""
    paths = [Path("/s1/run/a.jpg"), Path("/s2/run/a.jpg"), Path("/s2/run/b.jpg")]
    assert unique_names(paths) == ["s1__run__a.jpg", "s2__run__a.jpg", "b.jpg"]


def test_unique_names_do_not_depend_on_files_that_share_nothing() -> None:
    """A file's name is the same with and without files of other names beside it."""
    pair = [Path("/d/cats/1.jpg"), Path("/d/dogs/1.jpg")]
    others = [Path(f"/d/cats/{i}.jpg") for i in range(2, 9)]
    assert unique_names(pair + others)[:2] == unique_names(pair) == ["cats__1.jpg", "dogs__1.jpg"]
    assert unique_names(pair[::-1]) == ["dogs__1.jpg", "cats__1.jpg"]


def test_unique_names_differing_in_case_or_form_would_overwrite_and_are_told_apart() -> None:
    """Names that one file system cannot hold side by side are made different."""
    assert unique_names([Path("/x/A.jpg"), Path("/y/a.jpg")]) == ["x__A.jpg", "y__a.jpg"]
    together = unique_names([Path("/x/A.jpg"), Path("/x/a.jpg"), Path("/x/b.jpg")])
    assert together[0].endswith("__x__A.jpg")
    assert len({name.casefold() for name in together}) == 3
    composed, decomposed = Path("/x/\u00e9.jpg"), Path("/y/e\u0301.jpg")
    assert unique_names([composed, decomposed])[0] == "x__\u00e9.jpg"


def test_unique_names_file_that_is_called_like_a_made_name() -> None:
    """Names stay unique when a file's real name is what another one would be given."""
    paths = [Path("/d/cats/1.jpg"), Path("/d/dogs/1.jpg"), Path("/d/cats__1.jpg")]
    names = unique_names(paths)
    assert len(set(names)) == 3
    assert names[1] == "dogs__1.jpg"


def test_unique_names_long_names_keep_their_end_and_stay_apart(tmp_path: Path) -> None:
    """Names that outputs could not be added to are cut in front, also within a character."""
    stem = "é" * 110
    paths = [tmp_path / folder / f"{stem}{end}.jpg" for folder in "ab" for end in ("1", "2")]
    names = unique_names([*paths, tmp_path / "short.jpg"])
    assert len(set(names)) == 5
    assert all(len(name.encode()) <= 160 for name in names)
    assert [name[-5:] for name in names] == ["1.jpg", "2.jpg", "1.jpg", "2.jpg", "t.jpg"]
    assert unique_names(paths[:1]) == unique_names(paths[:2])[:1]


def test_find_sources_empty_name_is_a_failure_not_the_current_folder(tmp_path: Path) -> None:
    """What an unset variable of a script gives is told, and the rest is found."""
    (file,) = touch(tmp_path, "a.jpg")
    sources, (failure,) = find_sources(["", file])
    assert [source.name for source in sources] == ["a.jpg"]
    assert "got an empty name. Leave it out" in str(failure.error)


def test_find_sources_folder_of_folders_says_how_to_name_their_files(tmp_path: Path) -> None:
    """A folder's own files count; the message names the glob that descends, and it works."""
    (tmp_path / "photos" / "house").mkdir(parents=True)
    (tmp_path / "photos" / "house" / "1.jpg").touch()
    with pytest.raises(OptionError, match=r"in folders of its own: '.*photos/\*\*' names their"):
        find_sources([tmp_path / "photos"])
    sources, _ = find_sources([tmp_path / "photos" / "**"])
    assert [source.name for source in sources] == ["1.jpg"]


@pytest.mark.parametrize("form", ["folder", "glob", "both"])
def test_find_sources_counts_pictures_of_formats_that_are_not_read(
    tmp_path: Path, form: str
) -> None:
    """One line says how many were passed over, of which kinds; notes and sidecars do not count."""
    for name in ("a.jpg", "b.HEIC", "c.heic", "d.psd", "e.mpo", "f.tga", "g.CR2", "notes.txt"):
        (tmp_path / name).touch()
    for name in (".hidden.heic", "a.json", "Thumbs.db", "desktop.ini"):
        (tmp_path / name).touch()
    inputs: list[Path | str] = [tmp_path] if form != "glob" else []
    inputs += [str(tmp_path / "*")] if form != "folder" else []
    message = r"passed over 6 files .*1 .cr2, 2 .heic, 1 .mpo, 1 .psd, 1 .tga; the first.*Convert"
    with pytest.warns(StimulusWarning, match=message) as caught:
        sources, failures = find_sources(inputs)
    assert ([source.name for source in sources], failures) == (["a.jpg"], [])
    assert len(caught) == 1


@pytest.mark.parametrize(
    "name", ["a.czi", "a.nd2", "a.lsm", "a.ico", "a.eps", "a.dcm", "a.AVCI", "a.gifv", "a.pfm"]
)
def test_find_sources_counts_what_microscopes_and_others_write(tmp_path: Path, name: str) -> None:
    """A picture is not lost without a word because its format is rare."""
    touch(tmp_path, "a.jpg", name)
    suffix = Path(name).suffix.lower()
    with pytest.warns(StimulusWarning, match=f"passed over 1 files .*: 1 {suffix}; the first is"):
        assert len(find_sources([tmp_path])[0]) == 1


def test_find_sources_folder_of_other_formats_alone_says_which(tmp_path: Path) -> None:
    """A telephone's folder of HEIC is not called empty."""
    for name in ("IMG_1.HEIC", "IMG_2.HEIC", "IMG_3.DNG"):
        (tmp_path / name).touch()
    with pytest.raises(OptionError, match=r"which holds none but 1 \.dng, 2 \.heic"):
        find_sources([tmp_path])
