"""Study files: what they may say, and that every mistake is named with its line."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtofmri.backbones import Untrained
from imgtofmri.exceptions import OptionError
from imgtofmri.training.study import (
    BackboneSettings,
    DerivativesSettings,
    FitSettings,
    RoiSettings,
    StimuliSettings,
    SubjectSettings,
    TemplateSettings,
    read_study,
)
from imgtofmri.training.study.document import Table, dotted, read_document

STUDY = """\
# A comment, and a text with brackets: [fit]
id = "mine"
title = "My study [of brackets] # and signs"
licence = "CC0"
citation = [
  "One (2020)",
  "Two [2021]",
]

[stimuli]
table = "stimuli.tsv"

[backbone]
name = "resnet18"
layers = ["layer3", "avgpool"]

[fit]
alphas = { from = 1, to = 100, count = 3 }
alpha = "per_voxel"

[subject]
transform = { kind = "affine", file = "{name}.txt" }
responses = "{name}_{index}.npy"
mask = "brain.nii.gz"

[subject.rois]
V1 = "v1.nii.gz"

[subject.rois.LOC]
left = "loc_left.nii.gz"
right = "loc_right.nii.gz"
layers = ["avgpool"]

[[subjects]]
name = "A"

[[subjects]]
name = "B"
mask = "other.nii.gz"
"""

FILES = ("A.txt", "B.txt", "A_0.npy", "B_1.npy", "stimuli.tsv", "brain.nii.gz", "other.nii.gz")
FILES += ("v1.nii.gz", "loc_left.nii.gz", "loc_right.nii.gz")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with every file that the study names."""
    for name in FILES:
        (tmp_path / name).touch()
    return tmp_path


def write(folder: Path, text: str, suffix: str = ".toml") -> Path:
    """Write a study file."""
    path = folder / f"study{suffix}"
    path.write_text(text)
    return path


def test_read_study_fills_in_defaults_and_placeholders(folder: Path) -> None:
    """Shared settings go to every subject, with its name and number; own ones win."""
    study = read_study(write(folder, STUDY))
    assert study.id == "mine"
    assert study.citation == ("One (2020)", "Two [2021]")
    assert study.fit.alphas == pytest.approx((1.0, 10.0, 100.0))
    assert (study.fit.alpha, study.fit.folds, study.fit.nested) == ("per_voxel", 5, True)
    assert study.template.space == "MNI152NLin6Asym"
    a, b = study.subjects
    assert a.responses is not None
    assert a.transform is not None
    assert b.responses is not None
    assert a.responses.file == folder / "A_0.npy"
    assert b.responses.file == folder / "B_1.npy"
    assert a.transform.files == (folder / "A.txt",)
    assert a.mask is not None
    assert b.mask is not None
    assert (a.mask.file, b.mask.file) == (folder / "brain.nii.gz", folder / "other.nii.gz")
    assert [roi.name for roi in a.rois] == ["V1", "LOC"]
    assert dict(a.rois[0].masks) == {"B": folder / "v1.nii.gz"}
    assert list(a.rois[1].masks) == ["L", "R"]
    assert a.rois[1].layers == ("avgpool",)


@pytest.mark.parametrize(("weights", "seed"), [("untrained", 0), ("untrained:12", 12)])
def test_read_study_takes_untrained_weights(weights: str, seed: int, folder: Path) -> None:
    """Random weights need no file; their seed is a whole number."""
    text = STUDY.replace('name = "resnet18"', f'name = "resnet18"\nweights = "{weights}"')
    assert read_study(write(folder, text)).backbone.weights == Untrained(seed)
    wrong = text.replace(weights, "untrained:x")
    with pytest.raises(OptionError, match=r"line 15: backbone\.weights must be .*a whole number"):
        read_study(write(folder, wrong))
    with pytest.raises(OptionError, match=r"backbone\.weights must be a file that exists"):
        read_study(write(folder, text.replace(weights, "my.safetensors")))


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        (
            'alpha = "per_voxel"',
            'alpha = "voxel"',
            19,
            "fit.alpha must be one of shared, per_voxel",
        ),
        ('alpha = "per_voxel"', 'aplha = "shared"', 19, "'aplha'. Did you mean alpha"),
        ('alpha = "per_voxel"', "alpha = 3", 19, "must be one of shared, per_voxel; got 3"),
        ("from = 1,", "from = 0,", 18, "fit.alphas.from must be a number above 0; got 0"),
        ("from = 1,", "", 18, "fit.alphas lacks from"),
        ("count = 3", f"count = {2**62}", 18, "fit.alphas.count: expected at most 1,000 penalties"),
        (
            "count = 3",
            f"count = {2**63}",
            18,
            "count must be of 64 bits; got a number of 19 digits",
        ),
        (
            "from = 1,",
            f"from = {10**400},",
            18,
            "from must be of 64 bits; got a number of 401 digits",
        ),
        (
            "{ from = 1, to = 100, count = 3 }",
            f"[1, {-(10**400)}]",
            18,
            "fit.alphas[2] must be of 64 bits",
        ),
        ("count = 3", "count = 1001", 18, "got 1,001. Take only"),
        ("{ from = 1, to = 100, count = 3 }", f"{[1] * 1001}", 18, "fit.alphas: expected at most"),
        (
            'name = "resnet18"',
            'name = "resnet18"\npreprocessing = { size = 10001, mean = [0, 0, 0], std = [1] }',
            15,
            "backbone.preprocessing.size: expected at most 100,000,000 pixels; got 100,020,001",
        ),
        (
            'name = "resnet18"',
            'name = "resnet18"\n'
            "preprocessing = { size = 64, mean = [124, 116, 104], std = [0.2, 0.2, 0.2] }",
            15,
            "backbone.preprocessing.mean must be that of values from 0 to 1; got [124, 116, 104]",
        ),
        ("{ from = 1, to = 100, count = 3 }", "[1, -2]", 18, "must be above 0; got -2"),
        ("{ from = 1, to = 100, count = 3 }", '["a"]', 18, "must be a list of numbers"),
        ('alpha = "per_voxel"', "folds = 2", 19, "must be at least 3 with nested = true"),
        ('alpha = "per_voxel"', "folds = 2.5", 19, "must be a whole number, at least 2; got 2.5"),
        ('alpha = "per_voxel"', "nested = 1", 19, "must be true or false; got 1"),
        (
            'V1 = "v1.nii.gz"',
            "V1 = { value = 3 }",
            27,
            "is of a mask; there is none here. Leave it",
        ),
        ('alpha = "per_voxel"', "band_candidates = 9", 19, "needs banded = true. Add it, or leave"),
        (
            '"{name}_{index}.npy"',
            '{ file = "v1.nii.gz", transposed = true }',
            23,
            "is of arrays; v1.nii.gz is an image, whose volumes are its rows. Leave it out",
        ),
        (
            '"{name}_{index}.npy"',
            '{ file = "{name}_{index}.npy", axes = "xyzn", transposed = true }',
            23,
            "transposed is of arrays with two axes, axes of those with four. Keep one.",
        ),
        (
            'alpha = "per_voxel"',
            'engine = "torhc"',
            19,
            "one of numpy, torch; got 'torhc'. Did you",
        ),
        ('alpha = "per_voxel"', 'device = "cuda"', 19, "fit.device must be left out with the eng"),
        (
            'alpha = "per_voxel"',
            'engine = "torch"\ndevice = "GPU 0"',
            20,
            'fit.device must be "cpu", "cuda" or "cuda:NUMBER"; got \'GPU 0\'. Correct it.',
        ),
        (
            'alpha = "per_voxel"',
            'engine = "torch"\ndevice = "mps"',
            20,
            "fit.device must have double precision",
        ),
        ('alpha = "per_voxel"', "folds = true", 19, "must be a whole number, at least 2; got True"),
        (
            'table = "stimuli.tsv"',
            'table = "gone.tsv"',
            11,
            "stimuli.table must be a file that exi",
        ),
        ('table = "stimuli.tsv"', "", 10, "stimuli lacks table"),
        ('table = "stimuli.tsv"', 'folder = "gone"', 11, "must be a folder that exists"),
        ('name = "resnet18"', 'name = ""', 14, "backbone.name must not be empty"),
        ('layers = ["avgpool"]', 'layers = ["fc"]', 32, "must be among backbone.layers; got 'fc'"),
        ('left = "loc_left', 'mask = "v1.nii.gz"\nleft = "loc_left', 30, "beside left or right"),
        ('mask = "other.nii.gz"', 'mask = "gone"', 39, "subjects[2].mask must be a file that exi"),
        ('name = "B"', 'name = "A"', 38, "subjects[2].name must be of one subject only"),
        ('name = "B"', 'name = "A/B"', 38, "must not contain a slash"),
        ('kind = "affine"', 'kind = "affin"', 22, "must be one of same, affine, fnirt, itk"),
        ('kind = "affine", file', 'kind = "affine", fil', 22, "'fil'. Did you mean file?"),
        ('transform = { kind = "affine", file = "{name}.txt" }', "", 34, "lacks transform"),
        ('responses = "{name}_{index}.npy"', "", 26, "lacks responses for V1"),
        ('id = "mine"', "", 1, "lacks id: expected a text in quotes"),
        ('id = "mine"', "id = 5", 2, "id must be a text in quotes; got 5"),
        ("[stimuli]", "[stimulus]", 10, "stimulus means nothing here"),
        ('"stimuli.tsv"', '"a\\u0000b"', 11, "stimuli.table must be a path; got"),
        ('"stimuli.tsv"', '"~nobody-here/a.tsv"', 11, "there is no home folder for '~nobody-her"),
        ('"{name}_{index}.npy"', '"v1.nii.gz"', 24, "mask says which voxels the columns of an arr"),
        ('"affine", file', '"itk", files = ["v1.nii.gz"], file', 22, "and file are both given"),
        ("{ from = 1, to = 100, count = 3 }", "[1, nan]", 18, "must be above 0; got nan"),
        ("{ from = 1, to = 100, count = 3 }", "[true, 1]", 18, "must be a list of numbers"),
        ("to = 100,", "to = inf,", 18, "fit.alphas.to must be a number above 0; got inf"),
        ('layers = ["layer3", "avgpool"]', 'layers = ["a", "a"]', 15, "must be different ones"),
        ('id = "mine"', 'id = "../mine"', 2, "id must not contain a slash or be dots alone"),
        ('name = "B"', 'name = ".."', 38, "subjects[2].name must not contain a slash or be dots"),
        ("[stimuli]", '[template]\nspace = "a/b"\n[stimuli]', 11, "must be a name of letters and"),
        ("[stimuli]", '[template]\nspace = "MNI305"\n[stimuli]', 10, "template lacks grid"),
    ],
)
def test_read_study_mistake_names_line_and_remedy(
    folder: Path, old: str, new: str, line: int, message: str
) -> None:
    """Each mistake is reported with the file, its line and what to do."""
    assert STUDY.count(old) >= 1
    with pytest.raises(OptionError) as caught:
        read_study(write(folder, STUDY.replace(old, new, 1)))
    assert str(caught.value).startswith(f"{folder / 'study.toml'}, line {line}: ")
    assert message in str(caught.value)


def test_read_study_unreadable_files_are_refused(folder: Path) -> None:
    """Broken TOML, other suffixes and missing files have a message each."""
    with pytest.raises(OptionError, match=r"not valid TOML: .*line 1"):
        read_study(write(folder, "a = = 1"))
    with pytest.raises(OptionError, match=r"a study is a .toml file; got '.yaml'"):
        read_study(write(folder, "a: 1", ".yaml"))
    with pytest.raises(OptionError, match=r"the study file cannot be read"):
        read_study(folder / "gone.toml")


def test_read_study_responses_given_twice_are_refused(folder: Path) -> None:
    """Responses of the subject and of an ROI contradict each other; geometry and masks, too."""
    twice = STUDY.replace('layers = ["avgpool"]', 'responses = "A_0.npy"')
    with pytest.raises(OptionError, match=r"are given for the subject and for LOC. Keep one"):
        read_study(write(folder, twice))
    both = STUDY.replace("[subject]", '[subject]\ngeometry = "x.safetensors"')
    with pytest.raises(OptionError, match=r"transform is given by geometry already"):
        read_study(write(folder, both))
    masks = both.replace('transform = { kind = "affine", file = "{name}.txt" }\n', "")
    with pytest.raises(OptionError, match=r"rois.V1 has masks, but geometry gives them already"):
        read_study(write(folder, masks))
    masks = masks.replace('V1 = "v1.nii.gz"\n', "")
    with pytest.raises(OptionError, match=r"rois.LOC has masks, but geometry gives them already"):
        read_study(write(folder, masks))


def test_read_study_downloads_stay_in_the_cache(folder: Path, monkeypatch: Any) -> None:
    """Files of the cache need not exist yet, and no name leads out of it."""
    monkeypatch.setenv("IMGTOFMRI_CACHE", str(folder / "cache"))
    text = STUDY.replace('"stimuli.tsv"', '"cache:a/b.tsv"')
    study = read_study(write(folder, text))
    assert study.stimuli.table == folder / "cache" / "studies" / "a" / "b.tsv"
    with pytest.raises(OptionError, match=r"line 11: stimuli.table must stay inside the cache"):
        read_study(write(folder, STUDY.replace('"stimuli.tsv"', '"cache:../../b.tsv"')))
    entry = '\n[[downloads]]\nurl = "https://example.org/a"\nfile = "../a"\n'
    with pytest.raises(OptionError, match=r"line 43: downloads\[1\].file must stay inside"):
        read_study(write(folder, STUDY + entry))
    plain = entry.replace("https", "http").replace("../a", "a")
    with pytest.raises(OptionError, match=r"line 42: downloads\[1\].url must begin with https://"):
        read_study(write(folder, STUDY + plain))


def test_read_document_lines_are_those_of_the_keys(tmp_path: Path) -> None:
    """Multi-line values, strings with brackets and dotted keys do not shift the count."""
    text = (
        'a.b = """\nx = 1\n[y]\n"""\n'  # lines 1 to 4
        "c = [ # [ it's\n  1, # ]\n  2,\n]\n"  # lines 5 to 8
        "'d e' = 'it]'\n"  # line 9
        '[f."g.h"]\n'  # line 10
        "[[i]]\nj = { k = [\n1] }\n"  # lines 11 to 13
        "[[i]]\n[i.l]\nm = 2\n"  # lines 14 to 16
    )
    table = read_document(write(tmp_path, text))
    assert table.values == tomllib.loads(text)
    expected = {("a", "b"): 1, ("c",): 5, ("d e",): 9, ("f", "g.h"): 10, ("i", 0, "j"): 12}
    expected |= {("i", 1): 14, ("i", 1, "l"): 15, ("i", 1, "l", "m"): 16}
    for key, line in expected.items():
        assert table.lines[key] == line, dotted(key)


_NAMES = st.text("abcdefg_", min_size=1, max_size=5)
_VALUES = st.one_of(st.integers(-9, 9), st.text("ab]}[{\"'# =", max_size=8), st.booleans())


@pytest.mark.slow
@given(st.dictionaries(_NAMES, st.dictionaries(_NAMES, st.lists(_VALUES), max_size=4), max_size=4))
def test_read_document_finds_every_key_of_generated_files(
    tmp_path_factory: pytest.TempPathFactory, tables: dict[str, dict[str, list[Any]]]
) -> None:
    """Whatever the values, each key's line is the one that it was written on."""
    lines: list[str] = []
    expected = {}
    for name, content in tables.items():
        lines.append(f"[{name}]")
        for key, values in content.items():
            lines.append(f"{key} = [")
            expected[name, key] = len(lines)
            lines += [f"  {_toml(value)}," for value in values] + ["]"]
    path = write(tmp_path_factory.mktemp("toml"), "\n".join(lines))
    document = read_document(path)
    assert isinstance(document, Table)
    for found, line in expected.items():
        assert document.lines[found] == line


def _toml(value: Any) -> str:
    """Write a value as TOML does; JSON's texts and booleans are TOML's."""
    import json

    return json.dumps(value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('hrf = "fir"', "derivatives.hrf must be one of glover, glover + derivative"),
        ('estimator = "lsx"', "'lsx'. Did you mean lss?"),
        ("high_pass_hz = -1", "must be a frequency in Hz, 0 for none; got -1"),
        ("confounds = [1]", "must be a list of column names; got [1]"),
        ('subjekt = "01"', "'subjekt'. Did you mean subject?"),
    ],
)
def test_read_study_derivatives_have_defaults_and_name_mistakes(
    folder: Path, line: str, said: str
) -> None:
    """Head motion is regressed out unless the study says otherwise; mistakes have their line."""
    text = re.sub(r"(responses|mask|table) = .*\n", "", STUDY).replace(
        "[subject.rois]",
        '[subject.derivatives]\nfolder = "."\nraw = "."\nsubject = "01"\ntask = "x"\n#\n'
        "[subject.rois]",
    )
    said_of = read_study(write(folder, text)).subjects[0].derivatives
    assert said_of is not None
    assert said_of.confounds == ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
    assert (said_of.estimator, said_of.hrf, said_of.high_pass_hz) == ("lsa", "glover", 0.01)
    none = read_study(write(folder, text.replace("#\n[subj", "confounds = []\n[subj")))
    assert none.subjects[0].derivatives is not None
    assert none.subjects[0].derivatives.confounds == ()
    with pytest.raises(OptionError) as caught:
        read_study(write(folder, text.replace("#\n[subj", f"{line}\n[subj")))
    assert f"line {text.split(chr(10)).index('[subject.rois]')}: " in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("prefixed", [False, True])
def test_read_study_labels_may_stand_as_in_names_of_files(folder: Path, prefixed: bool) -> None:
    """``sub-01`` is the label 01, so that a person's name can be both a folder's and a label."""
    labels = {"sub": "01", "task": "x", "space": "T1w"}
    said = {key: f"{key}-{label}" if prefixed else label for key, label in labels.items()}
    text = re.sub(r"(responses|mask|table) = .*\n", "", STUDY).replace(
        "[subject.rois]",
        f'[subject.derivatives]\nfolder = "."\nraw = "."\nsubject = "{said["sub"]}"\n'
        f'task = "{said["task"]}"\nspace = "{said["space"]}"\n[subject.rois]',
    )
    found = read_study(write(folder, text)).subjects[0].derivatives
    assert found is not None
    assert (found.subject, found.task, found.space) == tuple(labels.values())


def test_read_study_empty_rois_are_asked_for(folder: Path) -> None:
    """A table of ROIs without any is as good as none."""
    start, _, _ = STUDY.partition("[subject.rois]")
    text = start + '[subject.rois]\n[[subjects]]\nname = "A"\n'
    with pytest.raises(OptionError, match=r"subjects\[1\] lacks rois: expected a table of ROI"):
        read_study(write(folder, text))


REFERENCE = Path(__file__).parent.parent / "docs" / "reference" / "study.md"
SECTIONS = {
    "`[template]`": TemplateSettings,
    "`[stimuli]`": StimuliSettings,
    "`[backbone]`": BackboneSettings,
    "`[fit]`": FitSettings,
    "`[[subjects]]`": SubjectSettings,
    "`[subjects.rois.NAME]`": RoiSettings,
    "`derivatives`": DerivativesSettings,
}


@pytest.mark.parametrize("heading", SECTIONS)
def test_reference_page_tells_every_setting_and_its_default(heading: str) -> None:
    """The page's table of each section has every key, no other, and the default of each."""
    chapter = REFERENCE.read_text(encoding="utf-8").partition(f"# {heading}")[2]
    table = chapter.partition("| --- |")[2].partition("\n\n")[0]
    told = {}
    for line in table.split("\n")[1:]:
        keys, *cells = (cell.strip() for cell in line.strip("|").split(" | "))
        names = re.findall("`(.+?)`", keys)
        defaults = cells[-1].split(", ") if len(names) > 1 else cells[-1:]
        told |= dict(zip(names, defaults * len(names), strict=False))
    keys = {item.name: item for item in dataclasses.fields(SECTIONS[heading]) if item.metadata}
    assert told.keys() == keys.keys()
    for name, key in keys.items():
        if isinstance(key.default, str | bool):
            assert told[name] == f"`{_toml(key.default)}`"
        elif isinstance(key.default, int | float):
            assert float(told[name]) == key.default
        elif key.default is dataclasses.MISSING:
            assert told[name].startswith("required")
