"""What a server is made of: its queue, the bodies that it takes, what it lets through."""

from __future__ import annotations

import asyncio
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imgtofmri.exceptions import DataError, OptionError, StimulusError
from imgtofmri.progress import Step, heard_by, track
from imgtofmri.serve import Limits
from imgtofmri.serve.guard import Guard
from imgtofmri.serve.inspection import inspect
from imgtofmri.serve.jobs import DONE, FAILED, QUEUED, RUNNING, Job, Jobs
from imgtofmri.serve.refusal import Refusal
from imgtofmri.serve.uploads import ClientLeftError, Upload, plain_name, receive_upload
from imgtofmri.serve.work import Choices

for module in ("python_multipart", "starlette"):
    pytest.importorskip(module, reason="needs the extra [serve]")


# The queue ---------------------------------------------------------------------------------


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    """Return a clock that stands until it is set."""
    return _Clock()


@pytest.fixture
def begin(tmp_path: Path, clock: _Clock) -> Iterator[Callable[..., Jobs]]:
    """Return what makes a queue; all are closed at the end."""
    made: list[Jobs] = []

    def make(work: Callable[[Job], None], **limits: Any) -> Jobs:
        made.append(Jobs(tmp_path, work, Limits(**limits), clock))
        return made[-1]

    yield make
    for jobs in made:
        jobs.close()


def _submitted(jobs: Jobs) -> Job:
    with jobs.receiving() as job:
        (job.sent / "a.png").write_bytes(b"sent")
        jobs.submit(job)
    return job


def _until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.005)


def _write_result(job: Job) -> None:
    job.made.mkdir()
    (job.made / "a.nii.gz").write_bytes(b"made")
    job.change(results={"a.nii.gz": 4})


def test_a_job_is_done_and_what_was_sent_is_removed(begin: Callable[..., Jobs]) -> None:
    """Its results stay, in folders that no other user can open."""
    jobs = begin(_write_result)
    job = _submitted(jobs)
    _until(lambda: job.is_over)
    assert job.state == DONE
    assert (job.made / "a.nii.gz").exists()
    _until(lambda: not job.sent.exists())
    assert stat.S_IMODE(job.folder.stat().st_mode) == 0o700


def test_results_expire_after_they_were_last_asked_for(
    begin: Callable[..., Jobs], clock: _Clock
) -> None:
    """Asking keeps them; time without asking removes them with their files."""
    jobs = begin(_write_result, keep_minutes=10)
    job = _submitted(jobs)
    _until(lambda: job.is_over and not job.sent.exists())
    clock.now = 590
    assert jobs.get(job.id) is job
    clock.now = 1180
    assert jobs.get(job.id) is job
    clock.now = 1800
    with pytest.raises(Refusal, match="there is none of this id"):
        jobs.get(job.id)
    assert not job.folder.exists()


def test_the_oldest_results_make_room(begin: Callable[..., Jobs], clock: _Clock) -> None:
    """Only so many are kept, those that were last asked for."""
    jobs = begin(_write_result, kept=2)
    done = []
    for number in range(4):
        clock.now = float(number)
        done.append(_submitted(jobs))
        _until(lambda: done[-1].is_over and not done[-1].sent.exists())
    jobs.sweep()
    assert [job.folder.exists() for job in done] == [False, False, True, True]


def test_a_full_queue_is_said_and_places_come_back(begin: Callable[..., Jobs]) -> None:
    """What arrives, waits and runs takes places; a job that is over, or never came, does not."""
    go = threading.Event()
    jobs = begin(lambda job: [go.wait(20), _write_result(job)] and None, queue=2)
    first, second = _submitted(jobs), _submitted(jobs)
    with pytest.raises(Refusal, match="expected a free place in the queue of 2") as refused:
        _submitted(jobs)
    assert refused.value.status == 429
    assert int(refused.value.headers["Retry-After"]) > 0
    _until(lambda: first.state == RUNNING)
    assert (first.state, second.state) == (RUNNING, QUEUED)
    assert (jobs.position(first), jobs.position(second)) == (0, 1)
    go.set()
    _until(lambda: second.is_over and not second.sent.exists())
    for _ in range(5):
        with pytest.raises(ClientLeftError), jobs.receiving() as left:
            raise ClientLeftError
        assert not left.folder.exists()
    _until(lambda: _submitted(jobs).id != "")


def test_a_job_that_is_dropped_ends_at_its_next_step(
    begin: Callable[..., Jobs], tmp_path: Path
) -> None:
    """Its files are removed, its place is free, and jobs behind it are done."""
    started, n_steps = threading.Event(), 0

    def work(job: Job) -> None:
        nonlocal n_steps
        with track("Predicting", 1000, "images", enabled=False) as advance:
            started.set()
            for _ in range(1000):
                time.sleep(0.01)
                n_steps += 1
                advance(1)

    jobs = begin(work, queue=2)
    running, waiting = _submitted(jobs), _submitted(jobs)
    assert started.wait(20)
    jobs.drop(waiting)
    assert not waiting.folder.exists()
    jobs.drop(running)
    _until(lambda: not any(tmp_path.iterdir()))
    assert n_steps < 1000
    with pytest.raises(Refusal, match="there is none of this id"):
        jobs.get(running.id)


def test_why_a_job_failed_names_no_path(begin: Callable[..., Jobs], tmp_path: Path) -> None:
    """An error of ours is said without folders, and any other fault not at all."""

    def work(job: Job) -> None:
        if not job.asked:
            message = f"'{job.sent / 'a.png'}' of {tmp_path} cannot be decoded"
            raise DataError(message)
        raise RuntimeError(str(tmp_path))

    jobs = begin(work)
    said = _submitted(jobs)
    with jobs.receiving() as fault:
        fault.asked = {"fault": True}
        jobs.submit(fault)
    _until(lambda: said.is_over and fault.is_over)
    assert (said.state, said.error) == (FAILED, "'a.png' of  cannot be decoded")
    assert (fault.state, fault.error) == (FAILED, "Predicting failed; the server's log says why.")


@pytest.mark.parametrize(("n", "said"), [(1, "1 image"), (2, "2 images")])
def test_track_counts_one_in_the_singular(
    capsys: pytest.CaptureFixture[str], n: int, said: str
) -> None:
    """Lines of a log read as a person would say them."""
    with track("Predicting", n, "images") as advance:
        advance(n)
    first, last = capsys.readouterr().err.splitlines()
    assert first == f"Predicting ({said}) ..."
    assert last.startswith("Predicting: done in ")


def test_a_listener_hears_each_step_and_nobody_else(capsys: pytest.CaptureFixture[str]) -> None:
    """Also of work that reports no progress; nothing goes to standard error."""
    steps: list[Step] = []
    with heard_by(steps.append), track("Predicting", 3, "images", enabled=False) as advance:
        advance(1)
        advance(2)
    assert [step.done for step in steps] == [0, 1, 3]
    assert {(step.description, step.total, step.unit) for step in steps} == {
        ("Predicting", 3, "images")
    }
    with track("Predicting", enabled=False) as advance:
        advance(1)
    assert len(steps) == 3
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["max_mb", "queue", "keep_minutes"])
def test_limits_are_above_0(name: str) -> None:
    """Each is refused by its name."""
    with pytest.raises(OptionError, match=f"{name} must be above 0; got 0"):
        Limits(**{name: 0})


# Bodies ------------------------------------------------------------------------------------


def _form(parts: list[tuple[str, str | None, bytes]], boundary: str = "xYz") -> bytes:
    """Return a form as RFC 7578 has it."""
    lines = []
    for name, filename, data in parts:
        told = "" if filename is None else f'; filename="{filename}"'
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{told}\r\n\r\n'
        lines.append(head.encode() + data + b"\r\n")
    return b"".join(lines) + f"--{boundary}--\r\n".encode()


TYPE = "multipart/form-data; boundary=xYz"


def _receive(
    chunks: list[bytes], folder: Path, limits: Limits | None = None, content_type: str = TYPE
) -> Upload:
    """Have the pieces of a body received; after the last, the client leaves."""
    messages = [
        {"type": "http.request", "body": chunk, "more_body": number < len(chunks) - 1}
        for number, chunk in enumerate(chunks)
    ]

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    return asyncio.run(receive_upload(content_type, receive, folder, limits or Limits()))


@settings(max_examples=60, deadline=None)
@given(
    data=st.lists(st.binary(max_size=40) | st.just(b"\r\n--xYz"), min_size=1, max_size=3),
    cuts=st.lists(st.integers(1, 30), max_size=12),
)
def test_files_are_whole_however_a_body_is_cut(
    data: list[bytes], cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What is written is what was sent, also where it looks like the form's own marks."""
    folder = tmp_path_factory.mktemp("sent")
    data = [part.replace(b"--xYz", b"--xY") for part in data]
    body = _form([("files", f"{k}.bin", part) for k, part in enumerate(data)])
    body = body[:-2] + b"\r\n"
    chunks, start = [], 0
    for cut in cuts:
        chunks.append(body[start : start + cut])
        start += cut
    upload = _receive([*chunks, body[start:]], folder)
    assert [path.read_bytes() for path in upload.files] == data
    assert upload.n_bytes == len(body)


def test_fields_come_with_files_and_names_are_made_different(tmp_path: Path) -> None:
    """Pasted pictures all have one name; each becomes a file of its own."""
    parts = [
        ("rois", None, b"LOC"),
        ("files", "image.png", b"1"),
        ("files", "Image.PNG", b"2"),
        ("rois", None, b"PPA"),
        ("files", "image.png", b"3"),
    ]
    upload = _receive([_form(parts)], tmp_path)
    assert upload.fields == {"rois": ["LOC", "PPA"]}
    assert [path.name for path in upload.files] == ["image.png", "Image-2.PNG", "image-3.png"]
    assert [path.read_bytes() for path in upload.files] == [b"1", b"2", b"3"]


_ONE = _form([("files", "a.png", b"1")])


@pytest.mark.parametrize(
    ("chunks", "content_type", "status", "said"),
    [
        ([_ONE], "application/json", 415, "expected a body of type multipart/form-data; got"),
        ([_ONE], "", 415, "got none"),
        ([_ONE], "multipart/form-data", 400, "expected a boundary"),
        ([b"no form at all"], TYPE, 400, "expected a whole form; got one that is damaged"),
        ([_ONE[:-8]], TYPE, 400, "it ends before its last boundary"),
        ([b""], TYPE, 400, "it ends before its last boundary"),
        ([_form([("rois", None, b"LOC")])], TYPE, 422, "expected one or more files"),
        ([_form([("file", "a.png", b"1")])], TYPE, 422, "expected files in the field files"),
        ([_form([("rois", None, b"x" * 5000)])], TYPE, 422, "at most 4096 bytes in a field"),
        ([_form([("a", None, b"1")] * 65)], TYPE, 422, "at most 64 fields"),
        ([_form([("files", "a", b"1")] * 4)], TYPE, 422, "at most 3 files in one job"),
        ([_form([("files", "a.png", b"x" * 2000)])], TYPE, 413, "at most 0.001 MB"),
        ([_form([("files", "../a.png", b"1")])], TYPE, 422, "names of files without folders"),
        ([_form([("files", "/etc/passwd", b"1")])], TYPE, 422, "names of files without folders"),
        ([_form([("files", "..", b"1")])], TYPE, 422, "names of files without folders"),
        ([_form([("files", "", b"1")])], TYPE, 422, "one has none"),
    ],
)
def test_a_body_that_cannot_be_used_is_refused_and_nothing_is_written_outside(
    chunks: list[bytes], content_type: str, status: int, said: str, tmp_path: Path
) -> None:
    """The answer is of the right kind and says why."""
    folder = tmp_path / "in" / "sent"
    folder.mkdir(parents=True)
    with pytest.raises(Refusal, match=said) as refused:
        _receive(chunks, folder, Limits(max_files=3, max_mb=0.001), content_type) if (
            status == 413
        ) else _receive(chunks, folder, Limits(max_files=3), content_type)
    assert refused.value.status == status
    assert {path.parent for path in tmp_path.rglob("*") if path.is_file()} <= {folder}


def test_a_body_that_stops_is_refused_and_one_that_ends_is_left(tmp_path: Path) -> None:
    """A pause has an end; so has a body that only ever drips."""

    async def never() -> Any:
        await asyncio.sleep(60)

    async def drip() -> Any:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"", "more_body": True}

    for receive, limits in ((never, Limits(idle_s=0.05)), (drip, Limits(receive_s=0.1))):
        with pytest.raises(Refusal, match="expected the rest of the body") as refused:
            asyncio.run(receive_upload(TYPE, receive, tmp_path, limits))
        assert refused.value.status == 408
    left = {"type": "http.disconnect"}
    messages = [{"type": "http.request", "body": _ONE[:20], "more_body": True}, left]

    async def leave() -> Any:
        return messages.pop(0)

    with pytest.raises(ClientLeftError):
        asyncio.run(receive_upload(TYPE, leave, tmp_path, Limits()))


@settings(deadline=None)
@given(st.text(max_size=300))
def test_a_name_is_refused_or_plain(sent: str) -> None:
    """Whatever is sent, what is used is one component of a path that file systems take."""
    try:
        name = plain_name(sent)
    except Refusal:
        return
    assert name == Path(name).name
    assert name.isprintable()
    assert 0 < len(name.encode()) <= 120


# What was sent ------------------------------------------------------------------------------


def test_files_are_what_they_hold_not_what_they_are_called(tmp_path: Path) -> None:
    """An image under any name becomes an image's name; other names stay."""
    pixels = np.zeros((4, 5, 3), np.uint8)
    for name in ("right.png", "wrong.mp4", "none"):
        with (tmp_path / name).open("wb") as file:
            Image.fromarray(pixels).save(file, format="PNG")
    found = [inspect(tmp_path / name, Limits(), 2.0).name for name in ("right.png", "wrong.mp4")]
    assert found == ["right.png", "wrong.mp4.png"]
    assert inspect(tmp_path / "none", Limits(), 2.0).name == "none.png"


def test_what_is_no_image_or_too_large_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """A bomb, text called .jpg, nothing at all, and a playlist that names other files."""
    bomb = tmp_path / "bomb.jpg"
    with bomb.open("wb") as file:
        Image.new("1", (20_000, 10_000)).save(file, format="PNG")
    assert bomb.stat().st_size < 200_000
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.png").touch()
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:10,\n/etc/hostname\n#EXT-X-ENDLIST\n")
    Image.new("RGB", (300, 200)).save(tmp_path / "large.png")
    for name, said in {
        "bomb.jpg": "20000 x 10000",
        "text.jpg": "expected an image",
        "empty.png": "which is empty",
        "list.mp4": "expected a movie",
        "large.png": "expected a picture of at most 0.05 million pixels; got 'large.png' of 300",
    }.items():
        with pytest.raises(StimulusError, match=said):
            inspect(tmp_path / name, Limits(max_megapixels=0.05), 2.0)


def test_a_movie_is_measured_before_it_is_predicted(tmp_path: Path) -> None:
    """Its length and its pictures' size have limits."""
    film = tmp_path / "film"
    _film(film, seconds=3)
    with pytest.raises(StimulusError, match="a movie of at most 0.04 minutes; got 'film'"):
        inspect(film, Limits(max_minutes=0.04), 2.0)
    with pytest.raises(StimulusError, match="of 64 x 48"):
        inspect(film, Limits(max_megapixels=0.001), 2.0)
    assert inspect(film, Limits(), 2.0).name == "film.mp4"


def _film(path: Path, seconds: int) -> None:
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(10 * seconds):
            pixels = np.full((48, 64, 3), (number * 3) % 255, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())


# What is asked -------------------------------------------------------------------------------

CHOICES = Choices(("LOC", "PPA", "OPA"), ("LOC", "PPA"), "zscore", Limits(max_rate_hz=4))


def test_what_is_left_out_is_as_the_server_has_it() -> None:
    """And regions are in one order, whatever the order asked for."""
    assert CHOICES.read({}) == {
        "rois": ("LOC", "PPA"),
        "average": "zscore",
        "subjects": False,
        "rate_hz": 2.0,
    }
    asked = {"rois": ["OPA,LOC", "LOC"], "average": ["mean"], "subjects": ["true"]}
    assert CHOICES.read({**asked, "rate_hz": ["0.5"]}) == {
        "rois": ("LOC", "OPA"),
        "average": "mean",
        "subjects": True,
        "rate_hz": 0.5,
    }


def test_choices_regions_are_in_the_servers_order() -> None:
    """Where regions overlap later ones weigh more: `serve --rois` orders them as `predict` does."""
    choices = Choices(CHOICES.rois, ("OPA", "LOC"), "zscore", CHOICES.limits)
    assert choices.read({})["rois"] == ("OPA", "LOC")
    assert choices.read({"rois": ["LOC", "OPA"]})["rois"] == ("OPA", "LOC")
    assert choices.read({"rois": ["PPA,LOC"]})["rois"] == ("LOC", "PPA")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("rois", "V1", "rois: expected some of LOC, PPA, OPA; got 'V1'"),
        ("average", "median", "average: expected zscore or mean; got 'median'"),
        ("subjects", "perhaps", "subjects: expected true or false; got 'perhaps'"),
        ("rate_hz", "5", "rate_hz: expected a number from 0.01 to 4; got '5'"),
        ("rate_hz", "nan", "rate_hz: expected a number"),
        ("rate_hz", "1e-9", "rate_hz: expected a number"),
        ("encoder", "x", "fields: expected average, rate_hz, rois, subjects; got 'encoder'"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(name: str, value: str, said: str) -> None:
    """Before anything is loaded or predicted."""
    with pytest.raises(Refusal, match=said) as refused:
        CHOICES.read({name: [value]})
    assert refused.value.status == 422


# Whose request it is ---------------------------------------------------------------------------


def _status(method: str = "GET", names: tuple[str, ...] = (), **headers: str) -> int:
    """Return what a guarded application that answers 200 to all says to a request."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    scope = {"type": "http", "method": method, "scheme": "http", "headers": raw, "path": "/"}
    asyncio.run(Guard(app, Limits(), names)(scope, receive, send))
    status: int = sent[0]["status"]
    return status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost:8000", 200),
        ("LOCALHOST", 200),
        ("[::1]:8000", 200),
        ("192.168.1.7:8000", 200),
        ("lab7:8000", 200),
        ("rebound.example:8000", 403),
        ("localhost.example", 403),
        ("127.0.0.1.example:8000", 403),
        ("", 403),
    ],
)
def test_only_names_of_this_computer_are_hosts(host: str, status: int) -> None:
    """A name of somebody's that is made to lead here is refused; addresses cannot be."""
    assert _status(host=host, names=("lab7",)) == status


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {}, 200),
        ("POST", {"origin": "http://localhost:8000"}, 200),
        ("POST", {"origin": "http://localhost:9000"}, 403),
        ("POST", {"origin": "https://localhost:8000"}, 403),
        ("POST", {"origin": "http://evil.example"}, 403),
        ("POST", {"origin": "null"}, 403),
        ("GET", {"origin": "http://evil.example"}, 403),
        ("POST", {"sec_fetch_site": "same-origin"}, 200),
        ("POST", {"sec_fetch_site": "cross-site"}, 403),
        ("GET", {"sec_fetch_site": "same-site"}, 403),
        ("GET", {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}, 403),
        (
            "GET",
            {
                "sec_fetch_site": "cross-site",
                "sec_fetch_mode": "navigate",
                "sec_fetch_dest": "document",
            },
            200,
        ),
        (
            "POST",
            {
                "sec_fetch_site": "cross-site",
                "sec_fetch_mode": "navigate",
                "sec_fetch_dest": "document",
            },
            403,
        ),
        (
            "GET",
            {
                "sec_fetch_site": "cross-site",
                "sec_fetch_mode": "navigate",
                "sec_fetch_dest": "iframe",
            },
            403,
        ),
    ],
)
def test_other_sites_are_refused(method: str, headers: dict[str, str], status: int) -> None:
    """By what browsers say of who asks; programs that say nothing are let in."""
    assert _status(method, host="localhost:8000", **headers) == status
