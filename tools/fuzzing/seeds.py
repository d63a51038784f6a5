"""Good files of every kind that the package reads, small, and the same each time."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

EVENTS = (
    "onset\tduration\tstim_file\tamplitude\n0.5\t1\ta.png\t1\n2\t1.5\tn/a\t0\n4\t1\tb.png\t-1e-3\n"
)
PATTERNS = "name,file,participant,category\na.png,volume.nii,S1,face\nb.png,volume.nii,S2,house\n"
CONFOUNDS = (
    "trans_x\ttrans_x_derivative1\tframewise_displacement\tcsf\n"
    "0.1\tn/a\tn/a\t1\n0.2\t0.1\t0.1\t2\n0.3\t0.1\t0.2\t3\n0.1\t-0.2\t0.1\t4\n"
)
SIDECAR = {
    "RepetitionTime": 2.0,
    "StartTime": 1.0,
    "SliceTimingCorrected": True,
    "SliceTiming": [0.0, 1.0, 0.5],
    "TaskName": "view",
    "AcquisitionDuration": 2.0,
}
STUDY = """\
id = "mine"
title = "My study"
licence = "CC0"
citation = ["One (2020)", "Two [2021]"]
limits = "Few people."

[template]
space = "MNI152NLin6Asym"

[[downloads]]
url = "https://example.org/data.zip"
file = "data.zip"
sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

[stimuli]
table = "rows.tsv"
folder = "pictures"
fold_column = "fold"

[backbone]
name = "resnet18"
layers = ["layer3", "avgpool"]
center_crop = true

[fit]
alphas = { from = 1, to = 100, count = 3 }
alpha = "per_voxel"
folds = 5
banded = true

[subject]
transform = { kind = "affine", file = "affine.txt" }
responses = { file = "responses.npz", key = "a" }
mask = { file = "mask.nii.gz", threshold = 0.5 }

[subject.rois]
V1 = "mask.nii.gz"

[subject.rois.LOC]
left = "mask.nii.gz"
layers = ["avgpool"]

[[subjects]]
name = "A"

[[subjects]]
name = "B"
mask = "mask.nii.gz"
"""
AFFINE = (
    "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
    "Parameters: 1 0 0 0 1 0 0 0 1 1.5 -2 3\nFixedParameters: 0 0 0\n"
)


def _bytes(write: Callable[[Any], object]) -> bytes:
    raw = io.BytesIO()
    write(raw)
    return raw.getvalue()


def _file(folder: Path, suffix: str, write: Callable[[str], object]) -> bytes:
    path = folder / f"made{suffix}"
    write(str(path))
    return path.read_bytes()


def pictures() -> list[tuple[str, bytes]]:
    """Return a picture in each format, and odd ones."""
    rng = np.random.default_rng(1)
    rgb = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    grey = rgb.convert("L")
    deep = Image.fromarray(rng.integers(0, 65536, (9, 12), dtype=np.uint16))
    clear = rgb.convert("RGBA")
    moving = {"save_all": True, "append_images": [rgb.rotate(90)]}
    exif = Image.Exif()
    exif[0x0112] = 6
    wanted: list[tuple[Image.Image, str, dict[str, Any]]] = [
        *((rgb, name, {}) for name in ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "PPM", "AVIF")),
        (rgb, "JPEG2000", {}), (rgb, "JPEG", {"exif": exif, "progressive": True}),
        (rgb.convert("CMYK"), "JPEG", {}), (rgb.convert("CMYK"), "TIFF", {}),
        (rgb, "TIFF", {"compression": "tiff_lzw"}),
        (deep, "PNG", {}), (deep, "TIFF", {"compression": "tiff_deflate"}), (clear, "PNG", {}),
        (clear, "WEBP", {"lossless": True}), (grey.convert("1"), "PNG", {}), (grey, "PPM", {}),
        (rgb.quantize(8), "PNG", {}), (rgb.quantize(8), "GIF", moving), (rgb, "PNG", moving),
        (rgb, "WEBP", moving), (rgb, "TIFF", {"compression": "packbits"}), (grey, "TIFF", moving),
    ]  # fmt: skip
    return [
        (".png", _bytes(lambda raw, p=picture, f=form, o=more: p.save(raw, f, **o)))
        for picture, form, more in wanted
    ]


def movies(folder: Path) -> list[tuple[str, bytes]]:
    """Return a short movie in each of several containers."""
    import av

    made = []
    kinds = (
        ("mp4", "mpeg4"),
        ("mkv", "mpeg4"),
        ("avi", "mjpeg"),
        ("mov", "mpeg4"),
        ("webm", "libvpx"),
    )
    for container, codec in kinds:
        path = folder / f"made.{container}"
        with av.open(str(path), "w") as output:
            stream = output.add_stream(codec, rate=10)
            stream.width, stream.height, stream.pix_fmt = (
                32,
                32,
                "yuvj420p" if codec == "mjpeg" else "yuv420p",
            )
            for number in range(8):
                pixels = np.full((32, 32, 3), number * 30, np.uint8)
                output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            output.mux(stream.encode())
        made.append((f".{container}", path.read_bytes()))
    return made


def arrays() -> list[tuple[str, bytes]]:
    """Return arrays in NumPy's files, of objects too."""
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    ragged = np.empty(2, dtype=object)
    ragged[:] = [np.zeros((2, 3)), np.ones(4, np.int16)]
    betas = np.array({"betasmd": values, "meta": "text"}, dtype=object)
    npy = [values, values.astype(">i2").T, np.array(5), np.array(["a", "b"]), ragged, betas]
    return [
        *(
            (".npy", _bytes(lambda raw, a=array: np.save(raw, a, allow_pickle=True)))
            for array in npy
        ),
        (".npz", _bytes(lambda raw: np.savez(raw, a=values))),
        (".npz", _bytes(lambda raw: np.savez_compressed(raw, a=values, names=np.array(["x"])))),
    ]


def pickles() -> list[tuple[str, bytes]]:
    """Return pickles of arrays and plain values, of three protocols."""
    holds = {"a": np.arange(6.0).reshape(2, 3), "b": [1, 2.5, None, "text", b"bytes", (True, -1)]}
    nested = np.empty(2, dtype=object)
    nested[:] = [np.arange(3), np.float32(4)]
    items = (holds, nested, [holds, holds], np.float64(3.0), {"x": {"y": {"z": np.int8(1)}}})
    return [(".pickle", pickle.dumps(item, protocol)) for item in items for protocol in (3, 4, 5)]


def checkpoints() -> list[tuple[str, bytes]]:
    """Return weights as PyTorch keeps them, before 1.6 and since, and safetensors."""
    from safetensors.numpy import save

    tensors = {
        "conv1.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.ones(2, np.float16),
    }

    described = _torch_pickle()
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr("archive/data.pkl", described)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", np.arange(6, dtype=np.float32).tobytes())
        archive.writestr("archive/version", "3\n")
    old = b"".join(
        pickle.dumps(item, 2)
        for item in (
            0x1950A86A20F9469CFC6C,
            1001,
            {"protocol_version": 1001, "little_endian": True},
        )
    )
    old += described + pickle.dumps(["0"], 2)
    old += (6).to_bytes(8, "little") + np.arange(6, dtype=np.float32).tobytes()
    return [(".pth", raw.getvalue()), (".pth", old), (".safetensors", save(tensors))]


def _torch_pickle() -> bytes:
    """Write a state dict of one tensor, opcode by opcode: PyTorch is not needed for it."""
    text = lambda value: b"X" + len(value).to_bytes(4, "little") + value.encode()  # noqa: E731
    storage = (
        b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x06tQ"
    )
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00K\x02K\x03\x86K\x03K\x01\x86\x89"
    )
    tensor += b"ccollections\nOrderedDict\n)RtR"
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + text("conv1.weight") + tensor + b"u."


def images() -> list[tuple[str, bytes]]:
    """Return images of voxels, and of surfaces."""
    import nibabel as nib

    rng = np.random.default_rng(2)
    affine = np.diag([2.0, 2, 2, 1])
    mask = (rng.random((4, 5, 6)) > 0.5).astype(np.uint8)
    series = rng.normal(size=(4, 5, 6, 3)).astype(np.float32)
    scaled = nib.Nifti1Image((series * 100).astype(np.int16), affine)
    scaled.header.set_slope_inter(0.01, 3)
    scaled.header.set_xyzt_units("mm", "sec")
    made = [nib.Nifti1Image(mask, affine), nib.Nifti1Image(series, affine), scaled]
    found = [(".nii", image.to_bytes()) for image in made]
    found += [(".nii", nib.Nifti2Image(series, affine).to_bytes())]
    found += [(".nii.gz", gzip.compress(image.to_bytes(), 1, mtime=0)) for image in made]
    found += [(".mgh", nib.MGHImage(series[..., 0], affine).to_bytes())]
    found += [(".mgz", gzip.compress(nib.MGHImage(mask, affine).to_bytes(), 1, mtime=0))]
    data = nib.gifti.GiftiDataArray(np.ones(3, np.float32), "NIFTI_INTENT_SHAPE")
    found += [(".gii", nib.GiftiImage(darrays=[data]).to_bytes())]
    return found


def transforms(folder: Path) -> list[tuple[str, bytes]]:
    """Return transforms as ITK writes them."""
    import h5py
    import nibabel as nib
    from scipy.io import savemat

    euler = AFFINE.replace("Affine", "Euler3D").replace(
        "1 0 0 0 1 0 0 0 1 1.5 -2 3", "0.1 0 0.2 1 2 3"
    )
    matrix = {
        "AffineTransform_double_3_3": np.r_[np.eye(3).ravel(), 1, 2, 3][:, None],
        "fixed": np.zeros((3, 1)),
    }
    field = nib.Nifti1Image(np.ones((3, 3, 3, 1, 3), np.float32), np.diag([2.0, 2, 2, 1]))

    def composite(path: str) -> None:
        with h5py.File(path, "w") as file:
            kinds = (
                "CompositeTransform_double_3_3",
                "AffineTransform_double_3_3",
                "DisplacementFieldTransform_double_3_3",
            )
            numbers = (None, np.r_[np.eye(3).ravel(), 1, 2, 3], np.ones(24))
            fixed = (None, np.zeros(3), np.r_[2, 2, 2, 0, 0, 0, 1, 1, 1, np.eye(3).ravel()])
            for number, (kind, p, f) in enumerate(zip(kinds, numbers, fixed, strict=True)):
                group = file.create_group(f"TransformGroup/{number}")
                group["TransformType"] = np.array([kind.encode()])
                if p is not None:
                    group["TransformParameters"] = p
                    group["TransformFixedParameters"] = f

    return [
        (".txt", AFFINE.encode()),
        (".tfm", euler.encode()),
        (".nii", field.to_bytes()),
        (".mat", _file(folder, ".mat", lambda path: savemat(path, matrix, format="4"))),
        (".h5", _file(folder, ".h5", composite)),
    ]


def matlab(folder: Path) -> list[tuple[str, bytes]]:
    """Return .mat files: numbers, texts, cells and structures; of version 7.3, too."""
    import h5py
    from scipy.io import savemat

    square = np.abs(np.subtract.outer(np.arange(4.0), np.arange(4.0)))
    cells = np.empty(4, dtype=object)
    cells[:] = ["a", "b", "c", "d"]
    structure = np.zeros(2, dtype=[("RDM", object), ("name", object)])
    structure[:] = [(square, "one"), (square, "two")]
    holds = ({"rdms": square}, {"rdms": square, "conditions": cells}, {"RDMs": structure})

    def version_7_3(path: str) -> None:
        with h5py.File(path, "w", userblock_size=512) as file:
            file["rdms"] = square
        with Path(path).open("r+b") as raw:
            raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")

    found = [
        (
            ".mat",
            _file(folder, ".mat", lambda path, h=held, z=small: savemat(path, h, do_compression=z)),
        )
        for held in holds
        for small in (False, True)
    ]
    return [*found, (".mat", _file(folder, ".mat", version_7_3))]


def hdf5(folder: Path) -> list[tuple[str, bytes]]:
    """Return HDF5 files of one array, and one as rsatoolbox writes it."""
    import h5py

    def one(path: str, **more: Any) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("group/a", data=np.arange(12.0).reshape(3, 4), **more)

    def rsatoolbox(path: str) -> None:
        with h5py.File(path, "w") as file:
            file["dissimilarities"] = np.arange(12.0).reshape(2, 6)
            file.create_group("rdm_descriptors").create_dataset("subject", data=[b"x", b"y"])
            group = file.create_group("pattern_descriptors")
            group["conditions"] = [b"a", b"b", b"c", b"d"]
            file.attrs["dissimilarity_measure"] = "correlation"

    return [
        (".h5", _file(folder, ".h5", one)),
        (".h5", _file(folder, ".h5", lambda path: one(path, chunks=(2, 2), compression="gzip"))),
        (".h5", _file(folder, ".h5", rsatoolbox)),
    ]


def matrices() -> list[tuple[str, bytes]]:
    """Return dissimilarity matrices in NumPy's files."""
    square = np.abs(np.subtract.outer(np.arange(4.0), np.arange(4.0)))
    names = np.array(["a", "b", "c", "d"])
    return [
        (".npy", _bytes(lambda raw: np.save(raw, square))),
        (".npy", _bytes(lambda raw: np.save(raw, np.stack([square, square])))),
        (".npz", _bytes(lambda raw: np.savez(raw, rdms=square[None], conditions=names))),
    ]


def patterns() -> list[tuple[str, bytes]]:
    """Return patterns in an .npz file, with their mask and without."""
    mask = np.zeros((3, 3, 3), bool)
    mask[1] = True
    values, names = np.ones((2, 9), np.float32), np.array(["a.png", "b.png"])
    held = {"patterns": values, "names": names}
    return [
        (".npz", _bytes(lambda raw: np.savez(raw, **held, mask=mask, affine=np.eye(4)))),
        (".npz", _bytes(lambda raw: np.savez_compressed(raw, **held))),
    ]


def measured() -> list[tuple[str, bytes]]:
    """Return time courses as `save_measured` writes them."""
    mask = np.zeros((3, 3, 3), bool)
    mask[1] = True
    held = {
        "data": np.ones((2, 5, 9), np.float32),
        "subject_names": np.array(["a", "b"]),
        "tr_s": np.float64(2),
        "mask": mask,
        "affine": np.eye(4),
        "roi_PPA": np.arange(9) < 4,
    }
    return [(".npz", _bytes(lambda raw: np.savez_compressed(raw, **held)))]


def bundles(folder: Path) -> list[tuple[str, bytes]]:
    """Return a small encoder."""
    from imgtofmri.bundle import Bundle, RoiModel, SubjectModel, write_bundle
    from imgtofmri.spaces import Grid, affine_map

    rng = np.random.default_rng(3)
    template, own = (
        Grid((6, 5, 4), np.diag([2.0, 2, 2, 1])),
        Grid((5, 5, 5), np.diag([2.5, 2.5, 2.5, 1])),
    )
    voxels = np.arange(30, 36).astype(np.int32)
    model = RoiModel(
        voxels=voxels,
        hemi=np.repeat(np.array([0, 1], np.uint8), 3),
        weights=rng.normal(size=(4, 6)).astype(np.float32),
        intercept=np.zeros(6, np.float32),
    )
    to_template = affine_map(own, template, np.eye(4)).restrict(voxels)
    features = {"id": "a/b", "backbone": "a", "layers": ["b"], "n_features": 4}
    card = {"id": "x", "title": "t", "licence": "CC0", "citation": "n", "features": features}
    card["template"] = {"space": "MNI152NLin6Asym"}
    subject = SubjectModel("S1", own, to_template, {"LOC": model})
    bundle = Bundle(card, template, (subject,))
    return [
        (".safetensors", _file(folder, ".safetensors", lambda path: write_bundle(bundle, path)))
    ]


def heads() -> list[tuple[str, bytes]]:
    """Return a small head."""
    from safetensors.numpy import save

    card = {"student": "s", "layers": ["a"], "features_id": "f", "rectified": True, "note": ""}
    held = {
        "center": np.zeros(3, np.float32),
        "scale": np.ones(3, np.float32),
        "weights": np.ones((3, 2), np.float16),
        "mixing": np.ones((2, 4), np.float16),
        "intercept": np.zeros(4, np.float32),
    }
    return [(".safetensors", save(held, metadata={"imgtofmri-head-1": json.dumps(card)}))]


def records() -> list[tuple[str, bytes]]:
    """Return the record of a run, and what its journal holds."""
    entry = {"name": "a.png", "path": "a.png", "sha256": "0" * 64}
    entry["outputs"] = [{"file": "a.nii.gz", "sha256": "1" * 64}]
    from imgtofmri import __version__
    from imgtofmri.outputs.folder import RECORD_VERSION

    record = {
        "GeneratedBy": [{"Name": "imgtofmri", "Version": __version__}],
        "RecordVersion": RECORD_VERSION,
        "command": "predict",
        "state": "interrupted",
        "started": "2024-01-01T00:00:00+00:00",
        "settings": {"a": 1},
        "prediction": {"b": [1, 2]},
        "inputs": [entry],
        "outputs": [{"file": "b.tsv", "sha256": "2" * 64}],
        "failures": [],
    }
    lines = [json.dumps(entry), json.dumps({"name": "b.png", "failure": "because"})]
    return [(".json", json.dumps(record).encode()), (".jsonl", ("\n".join(lines) + "\n").encode())]


def run() -> tuple[bytes, dict[str, bytes]]:
    """Return the record of a run that has ended, and the files that it lists."""
    files = {"map.nii.gz": _map(), "a.tsv": b"a\tb\n1\t2\n", "a.svg": b"<svg/>"}
    record = json.loads(records()[0][1])
    record |= {"command": "contrast", "state": "complete", "controls": {}, "versions": {"a": "1"}}
    record |= {"measured": [], "written": record["started"]}
    record["outputs"] = [
        {"file": name, "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    ]
    record["inputs"][0]["outputs"] = []
    record["prediction"] = {"encoder": "x", "backbone": "resnet18", "layers": ["avgpool"]}
    record["prediction"] |= {"rois": ["PPA"], "space": "MNI152NLin6Asym", "sigma_mm": 2.5}
    record["prediction"] |= {"average": "mean", "center_crop": False, "weights": "a"}
    return json.dumps(record).encode(), files


STORE_FILES = {
    ".zarr": "zarr.json",
    ".names": "stimulus/c.0",
    ".paths": "path/c.0",
    ".movies": "movie/c.0",
    ".mark": "done/c.0",
    ".group": "group/c.0.0",
    ".person": "subjects/c.1.0.0",
    ".means": "rois/c.0.0.0.0",
    ".digests": "digest/c.0.0",
    ".onsets": "onset/c.0",
    ".mask": "mask/c.0.0.0",
    ".affine": "affine/c.0.0",
    ".voxels": "roi_voxels/c.0.0.0",
    ".coverage": "coverage/c.0.0",
    ".roi": "roi/c.0",
}
"""The files of a store that are changed, one at a time, by the suffix that its input has."""


@cache
def store() -> dict[str, bytes]:
    """Return the files of a store of three frames."""
    from imgtofmri import Prediction

    rng = np.random.default_rng(5)
    n, people, mask = 3, ("A", "B"), np.arange(27).reshape(3, 3, 3) % 4 == 0
    n_voxels = int(mask.sum())
    maps = rng.normal(size=(2, n, n_voxels)).astype(np.float32)
    columns = {
        ("LOC", "L"): np.arange(2),
        ("LOC", "R"): np.arange(2, 4),
        ("PPA", "B"): np.arange(3),
    }
    voxels = {place: np.isin(np.arange(n_voxels), own) for place, own in columns.items()}
    made = Prediction(
        group=maps.mean(axis=0),
        subjects=maps,
        mask=mask,
        affine=np.eye(4),
        names=("a", "b", "c"),
        roi_masks=voxels,
        subject_names=people,
        native=tuple(maps),
        own_rois=(columns,) * 2,
        coverage=np.ones((2, n_voxels), np.float32),
        onsets_s=np.arange(n) / 2,
        sha256=("1" * 64, "2" * 64, None),
    )
    with tempfile.TemporaryDirectory() as folder:
        made.save(folder, "zarr", subjects=True)
        home = Path(folder) / "predictions.zarr"
        found = (path for path in sorted(home.rglob("*")) if path.is_file())
        return {path.relative_to(home).as_posix(): path.read_bytes() for path in found}


def store_files() -> list[tuple[str, bytes]]:
    """Return the files of a store that are changed."""
    return [(suffix, store()[file]) for suffix, file in STORE_FILES.items()]


def _map() -> bytes:
    import nibabel as nib

    values = np.random.default_rng(4).normal(size=(8, 8, 8)).astype(np.float32)
    image = nib.Nifti1Image(values, np.diag([20.0, 20, 20, 1]))
    return gzip.compress(image.to_bytes(), 1, mtime=0)


def archives() -> list[tuple[str, bytes]]:
    """Return archives of a few files."""
    held = {"a/b.txt": b"text" * 50, "a/c.bin": bytes(range(256)), "d.txt": b""}
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in held.items():
            archive.writestr(name, content)
    found = [(".zip", zipped.getvalue())]
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode=mode) as packed:
            for name, content in held.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                packed.addfile(member, io.BytesIO(content))
        found.append((".tar", raw.getvalue()))
    return found


def networks() -> list[tuple[str, bytes]]:
    """Return a network of one convolution in ONNX's format."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Conv", ["images", "weight"], ["conv"]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["map"]),
        helper.make_node("Flatten", ["map"], ["pooled"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("pooled", TensorProto.FLOAT, None)],
        [helper.make_tensor("weight", TensorProto.FLOAT, (5, 3, 1, 1), np.arange(15.0))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return [(".onnx", model.SerializeToString())]
