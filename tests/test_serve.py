"""A server as people and programs meet it: in a process of its own, over its socket."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from imgtofmri.bundle import Bundle, write_bundle
from imgtofmri.cli import main
from imgtofmri.encoder import load_encoder
from imgtofmri.serve import server as serve_module

needs_extra = pytest.mark.skipif(
    not all(find_spec(module) for module in serve_module.NEEDED),
    reason="needs the extra [serve]: Starlette, uvicorn and python-multipart",
)
pytestmark = [
    needs_extra,
    pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning"),
]

MAX_MB = 4
QUEUE = 8


@dataclass
class Server:
    """A server that runs, where it is, and its temporary folder."""

    process: subprocess.Popen[str]
    port: int
    temporary: Path
    encoder: Path

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://127.0.0.1:{self.port}/"

    def jobs(self) -> list[Path]:
        """Return the folders of jobs that there are."""
        return list(self.temporary.glob(".imgtofmri-*.part/*"))

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Return the status, headers and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            said = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, said, answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """Return what an answer's JSON holds."""
        status, _, body = self.ask("GET", path)
        assert status == 200, body
        return json.loads(body)

    def send(self, *parts: tuple[str, str | None, bytes], **headers: str) -> tuple[int, Any]:
        """Send a form to /predict and return the status and the answer."""
        boundary = "xYz"
        lines = []
        for name, filename, data in parts:
            told = "" if filename is None else f'; filename="{filename}"'
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{told}\r\n\r\n'
            lines.append(head.encode() + data + b"\r\n")
        body = b"".join(lines) + f"--{boundary}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        status, _, answer = self.ask("POST", "/predict", body, kind | headers)
        return status, json.loads(answer)

    def finished(self, job: dict[str, Any]) -> dict[str, Any]:
        """Wait for a job to be over and return it."""
        end = time.monotonic() + 60
        while job["state"] not in ("done", "failed"):
            assert time.monotonic() < end, job
            time.sleep(0.05)
            job = self.get(f"/jobs/{job['id']}")
        return job


def start(encoder: Path, temporary: Path, *options: str) -> Server:
    """Start ``imgtofmri serve`` on a free port of this computer."""
    temporary.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "imgtofmri", "serve", "--encoder", str(encoder)]
    command += ["--weights", "untrained:0", "--port", "0", *options]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(temporary)}
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r"http://127\.0\.0\.1:([0-9]+)/", line)
    if found is None:
        process.kill()
        pytest.fail(line + process.stderr.read())
    return Server(process, int(found[1]), temporary, encoder)


@pytest.fixture(scope="module")
def encoder_file(
    make_bundle: Callable[..., Bundle], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return an encoder of ResNet-18's features on a small grid."""
    path = tmp_path_factory.mktemp("encoder") / "small.safetensors"
    write_bundle(make_bundle(np.random.default_rng(5)), path)
    return path


@pytest.fixture(scope="module")
def server(encoder_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server that all tests of this module ask."""
    limits = ["--max-mb", str(MAX_MB), "--queue", str(QUEUE), "--max-minutes", "0.1"]
    running = start(encoder_file, tmp_path_factory.mktemp("private"), *limits)
    yield running
    running.process.terminate()
    _, said = running.process.communicate(timeout=60)
    assert running.process.returncode == 0
    assert "Traceback" not in said
    assert not list(running.temporary.iterdir())


def photo(seed: int, format: str = "PNG", size: tuple[int, int] = (40, 30)) -> bytes:
    """Return a picture of noise as a file."""
    rng = np.random.default_rng(seed)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(file, format=format)
    return file.getvalue()


def film(seconds: int) -> bytes:
    """Return a film of grey pictures as a file."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(10 * seconds):
            pixels = np.full((48, 64, 3), (number * 9) % 255, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())
    return file.getvalue()


def test_two_photographs_are_predicted_as_python_predicts_them(
    server: Server, tmp_path: Path
) -> None:
    """The volumes hold the same numbers; table, page and archive are there."""
    files = {"a.png": photo(1), "b ü.jpg": photo(2, "JPEG")}
    asked = [("rois", None, b"PPA"), ("average", None, b"mean")]
    status, job = server.send(*asked, *(("files", name, data) for name, data in files.items()))
    assert status == 202
    assert job["stimuli"] == list(files)
    job = server.finished(job)
    assert (job["state"], job["error"], job["failures"]) == ("done", "", [])
    assert job["settings"] == {"rois": ["PPA"], "average": "mean", "subjects": False, "rate_hz": 2}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    expected = load_encoder(server.encoder).predict(
        [tmp_path / name for name in files],
        rois="PPA",
        average="mean",
        weights="untrained:0",
        progress=False,
    )
    urls = {file["name"]: file["url"] for file in job["files"]}
    for index, name in enumerate(files):
        status, headers, body = server.ask("GET", urls[f"{name}.nii.gz"])
        assert (status, headers["content-type"]) == (200, "application/gzip")
        assert "attachment" in headers["content-disposition"]
        (tmp_path / "got.nii.gz").write_bytes(body)
        volume = np.asarray(nib.load(tmp_path / "got.nii.gz").dataobj)
        np.testing.assert_array_equal(volume[expected.mask], expected.group[index])
    _, headers, body = server.ask("GET", f"/jobs/{job['id']}/results.zip")
    assert headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert {f"imgtofmri/{name}" for name in urls} == set(archive.namelist())
        assert archive.testzip() is None
    rois = server.get(f"/jobs/{job['id']}/rois")
    means = expected.roi_means()
    assert rois["stimuli"] == list(files)
    assert [(place["roi"], place["hemi"]) for place in rois["places"]] == list(means.places)
    np.testing.assert_allclose(np.transpose(rois["group"]), means.group, rtol=1e-4)


def test_the_report_is_of_no_origin_and_says_no_path(server: Server) -> None:
    """Nothing in it can ask the server; nothing that is answered says where files lie."""
    _, job = server.send(("files", "a.png", photo(1)), ("files", "broken.png", photo(2)[:90]))
    job = server.finished(job)
    assert [failure["name"] for failure in job["failures"]] == ["broken.png"]
    assert job["stimuli"] == ["a.png"]
    status, headers, page = server.ask("GET", job["report"])
    assert status == 200
    policy = headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts")
    assert "allow-same-origin" not in policy
    assert page.startswith(b"<!doctype html>")
    answers = [page, json.dumps(job).encode()]
    answers += [server.ask("GET", file["url"])[2] for file in job["files"]]
    answers += [server.ask("GET", path)[2] for path in ("/server", "/openapi.json")]
    for folder in (server.temporary, server.encoder.parent):
        assert not any(str(folder).encode() in answer for answer in answers)


def test_what_is_left_out_of_a_stimulus_is_said(server: Server) -> None:
    """Of an animation the first picture is taken: whoever asked is told, each time."""
    file = io.BytesIO()
    first, second = (Image.open(io.BytesIO(photo(seed))) for seed in (1, 2))
    first.save(file, format="GIF", save_all=True, append_images=[second])
    for _ in range(2):
        _, job = server.send(("files", "moving.gif", file.getvalue()))
        [note] = server.finished(job)["notes"]
        assert "'moving.gif'" in note
        assert "the first alone is taken" in note
        assert str(server.temporary) not in note


def test_a_film_is_predicted_frame_by_frame(server: Server) -> None:
    """At the rate that was asked for; one that is too long is refused."""
    parts = [("rate_hz", None, b"4"), ("files", "film.mp4", film(2))]
    job = server.finished(server.send(*parts)[1])
    assert job["state"] == "done", job["error"]
    table = next(file for file in job["files"] if file["name"] == "film.mp4_timeseries.tsv")
    status, headers, body = server.ask("GET", table["url"])
    assert headers["content-type"].startswith("text/tab-separated-values")
    assert len(body.splitlines()) == 1 + 8
    status, answer = server.send(("files", "long.mp4", film(8)))
    assert status == 422
    assert "a movie of at most 0.1 minutes" in answer["detail"]


def test_progress_is_told_until_the_job_is_over(server: Server) -> None:
    """The stream's states only go forward, its last is done, and then it ends."""
    _, job = server.send(*(("files", f"{k}.png", photo(k)) for k in range(40)))
    status, headers, body = server.ask("GET", f"/jobs/{job['id']}/events")
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    events = [json.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: ")]
    order = ["queued", "running", "done"]
    states = [order.index(event["state"]) for event in events]
    assert states == sorted(states)
    assert states[-1] == 2
    assert {event["total"] for event in events if event["doing"] == "Predicting"} <= {40}


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("../../a.png", photo(1), "expected names of files without folders"),
        ("..\\a.png", photo(1), "expected names of files without folders"),
        ("note.jpg", b"only text", "expected an image"),
        ("empty.png", b"", "which is empty"),
        ("x.exe", b"MZ", "expected an image"),
    ],
)
def test_what_cannot_be_predicted_is_refused_with_a_reason(
    server: Server, name: str, data: bytes, said: str
) -> None:
    """As 422, and nothing of it is kept."""
    before = server.jobs()
    status, answer = server.send(("files", name, data))
    assert status == answer["status"] == 422
    assert said in answer["detail"]
    assert str(server.temporary) not in answer["detail"]
    assert server.jobs() == before


def test_a_bomb_called_jpg_is_refused(server: Server) -> None:
    """Few bytes that would be 200 million pixels."""
    file = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(file, format="PNG")
    status, answer = server.send(("files", "bomb.jpg", file.getvalue()))
    assert status == 422
    assert "20000 x 10000" in answer["detail"]


_HEAD = (
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: multipart/form-data; boundary=xYz\r\n"
)
_PART = b'--xYz\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'


@pytest.mark.parametrize("how", ["said", "counted"])
def test_a_body_of_2_gb_is_refused(server: Server, how: str) -> None:
    """By the length that it says, or, where it says none, by what comes; and is told so."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        if how == "said":
            client.sendall(_HEAD + b"Content-Length: 2000000000\r\n\r\n" + _PART)
            sent = 0
        else:
            client.sendall(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
            client.sendall(b"%x\r\n%s\r\n" % (len(_PART), _PART))
            piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
            for sent in range(0, 2_000_000_000, 65536):
                try:
                    client.sendall(piece)
                except OSError:
                    break
                if sent > MAX_MB * 1e6 and sent % (1 << 20) == 0:
                    client.setblocking(False)
                    try:
                        if client.recv(1, socket.MSG_PEEK):
                            break
                    except BlockingIOError:
                        pass
                    finally:
                        client.settimeout(30)
        with client.makefile("rb") as stream:
            answer = stream.read1()
            while b"}" not in answer:
                answer += stream.read1()
    assert answer.startswith(b"HTTP/1.1 413"), answer
    assert f"expected at most {MAX_MB} MB".encode() in answer
    assert sent < 1_000_000_000
    assert server.get("/server")["limits"]["max_mb"] == MAX_MB


def test_who_asks_before_sending_is_refused_before_sending(server: Server) -> None:
    """As curl does with large bodies."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(_HEAD + b"Content-Length: 2000000000\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 413")


def test_a_half_sent_body_and_a_client_that_leaves_leave_nothing(server: Server) -> None:
    """What has come of it is removed, and its place in the queue is free again."""
    before = set(server.jobs())
    for _ in range(2 * QUEUE):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
            client.sendall(_HEAD + b"Content-Length: 100000\r\n\r\n" + _PART + b"x" * 5000)
    for _ in range(4):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
            client.sendall(b"POST /predict HTTP/1.1\r\nHost: local")
    end = time.monotonic() + 20
    status = 429
    while status == 429:
        assert time.monotonic() < end
        status, job = server.send(("files", "a.png", photo(1)))
    assert status == 202
    while len(set(server.jobs()) - before) > 1:
        assert time.monotonic() < end
        time.sleep(0.05)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(f"GET /jobs/{job['id']}/events HTTP/1.1\r\nHost: [::1]\r\n\r\n".encode())
        assert client.recv(100)
    assert server.finished(job)["state"] == "done"


def test_damaged_requests_are_refused(server: Server, rng: np.random.Generator) -> None:
    """Each gets an answer of 400 to 499 or, where it makes a body longer, waits for the rest."""
    before = set(server.jobs())
    whole = _PART + b"no picture\r\n--xYz--\r\n"
    for _ in range(150):
        request = bytearray(_HEAD + b"Content-Length: %d\r\n\r\n" % len(whole) + whole)
        for at in rng.integers(0, len(request), 3):
            request[at] = rng.integers(256)
        with socket.create_connection(("127.0.0.1", server.port), timeout=0.5) as client:
            client.sendall(request)
            try:
                answer = client.recv(65536)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 4"), answer
    end = time.monotonic() + 20
    while set(server.jobs()) - before:
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_50_jobs_at_once_are_done_or_told_to_come_again(server: Server) -> None:
    """None is lost, none fails, and the server is there afterwards."""
    answers: list[tuple[int, Any, dict[str, str]]] = []
    barrier = threading.Barrier(50)

    def one(number: int) -> None:
        barrier.wait(30)
        body = _PART + photo(number) + b"\r\n--xYz--\r\n"
        headers = {"Content-Type": "multipart/form-data; boundary=xYz"}
        status, said, answer = server.ask("POST", "/predict", body, headers)
        answers.append((status, json.loads(answer), said))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 50
    assert {status for status, _, _ in answers} <= {202, 429}
    accepted = [job for status, job, _ in answers if status == 202]
    refused = [(answer, said) for status, answer, said in answers if status == 429]
    assert len(accepted) >= QUEUE
    assert all(int(said["retry-after"]) > 0 for _, said in refused)
    assert all("expected a free place" in answer["detail"] for answer, _ in refused)
    assert {server.finished(job)["state"] for job in accepted} == {"done"}


def test_a_job_that_is_dropped_is_gone(server: Server) -> None:
    """With its files; a second time, and for an id that never was, there is none."""
    job = server.finished(server.send(("files", "a.png", photo(1)))[1])
    assert job["state"] == "done", job
    path = f"/jobs/{job['id']}"
    assert any(folder.name == job["id"] for folder in server.jobs())
    assert server.ask("DELETE", path)[0] == 204
    assert not any(folder.name == job["id"] for folder in server.jobs())
    for gone in (path, f"{path}/events", f"{path}/report", "/jobs/../etc", "/jobs/%2e%2e%2f"):
        status, _, body = server.ask("GET", gone)
        assert status == 404, gone
        assert json.loads(body)["detail"]


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "..%2f..%2fsent%2fa.png", "%2fetc%2fpasswd", "nothere", "."]
)
def test_only_results_are_files(server: Server, name: str) -> None:
    """Names that lead elsewhere are none of the job's."""
    job = server.finished(server.send(("files", "a.png", photo(1)))[1])
    status, _, body = server.ask("GET", f"/jobs/{job['id']}/files/{name}")
    assert status == 404
    assert b"root:" not in body


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "rebound.example"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_other_hosts_and_origins_are_refused(
    server: Server, headers: dict[str, str], status: int
) -> None:
    """Whatever they send, and whatever they ask for."""
    assert server.send(("files", "a.png", photo(1)), **headers)[0] == status
    assert server.ask("GET", "/server", headers=headers)[0] == status


def test_every_answer_bears_headers_that_keep_it_in(server: Server) -> None:
    """Also refusals, files and what is not there; other methods are told which there are."""
    for path in ("/", "/api", "/server", "/static/serve.js", "/openapi.json", "/nothere"):
        _, headers, _ = server.ask("GET", path)
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers
    status, headers, body = server.ask("PUT", "/predict")
    assert (status, headers["allow"]) == (405, "POST")
    assert headers["content-type"] == "application/problem+json"
    assert json.loads(body)["detail"].startswith("expected a method")
    job = server.send(("files", "a.png", photo(1)))[1]
    assert server.ask("HEAD", f"/jobs/{job['id']}/events")[2] == b""


def test_pages_name_nothing_outside(server: Server) -> None:
    """No address of another host is in what browsers load."""
    for path in ("/", "/api", "/static/serve.css", "/static/serve.js", "/static/api.js"):
        _, _, body = server.ask("GET", path)
        found = set(re.findall(rb"https?://[^\s\"'`<)]+", body)) - {b"http://www.w3.org/2000/svg"}
        assert not found, path


def test_the_description_is_of_what_there_is(server: Server) -> None:
    """Every path that it has is answered, with a status that it has."""
    description = server.get("/openapi.json")
    assert description["openapi"].startswith("3.1")
    _, job = server.send(("files", "a.png", photo(1)))
    server.finished(job)
    for path, item in description["paths"].items():
        real = path.replace("{id}", job["id"]).replace("{file}", "a.png.nii.gz")
        for method in item.keys() & {"get", "post"}:
            status, _, _ = server.ask(method.upper(), real)
            assert str(status) in item[method]["responses"], (method, path)
            assert status == (200 if method == "get" else 415)


def test_what_is_sent_lies_in_a_folder_of_this_user_alone(server: Server) -> None:
    """Mode 0700."""
    (root,) = server.temporary.iterdir()
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_server_that_is_ended_leaves_nothing(
    how: signal.Signals, encoder_file: Path, tmp_path: Path
) -> None:
    """Also while a job runs and somebody listens to it."""
    server = start(encoder_file, tmp_path / "private")
    pictures = [("files", f"{k}.png", photo(k)) for k in range(24)]
    status, job = server.send(*pictures)
    assert status == 202
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(f"GET /jobs/{job['id']}/events HTTP/1.1\r\nHost: [::1]\r\n\r\n".encode())
        assert client.recv(100)
        server.process.send_signal(how)
        _, said = server.process.communicate(timeout=60)
    assert server.process.returncode == 0, said
    assert "stopped; what was sent and made is removed" in said
    assert "Traceback" not in said
    assert not list(server.temporary.iterdir())


@pytest.mark.slow
def test_what_a_killed_server_left_is_removed_by_the_next(
    encoder_file: Path, tmp_path: Path
) -> None:
    """What a server that still runs has, stays."""
    killed, running = (start(encoder_file, tmp_path / "private") for _ in range(2))
    assert killed.send(("files", "a.png", photo(1)))[0] == 202
    killed.process.kill()
    killed.process.communicate(timeout=60)
    assert len(list(killed.temporary.iterdir())) == 2
    following = start(encoder_file, tmp_path / "private")
    assert len(list(following.temporary.iterdir())) == 2
    assert running.finished(running.send(("files", "a.png", photo(1)))[1])["state"] == "done"
    for server in (running, following):
        server.process.terminate()
        server.process.communicate(timeout=60)
    assert not list(following.temporary.iterdir())


@pytest.mark.slow
def test_a_port_in_use_is_said_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The encoder that does not exist is not looked for."""
    missing = ["--encoder", str(tmp_path / "nothere.safetensors")]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", *missing, "--port", str(port)]) == 2
    assert f"--port must be one that is free and may be used; got {port}" in capsys.readouterr().err
    assert main(["serve", *missing, "--port", "70000"]) == 2
    assert "--port must be one that is free" in capsys.readouterr().err
    assert main(["serve", *missing, "--host", "192.0.2.1", "--port", "0"]) == 2
    assert "--host must be a name or address of this computer" in capsys.readouterr().err
    assert main(["serve", *missing, "--host", "no such host"]) == 2
    assert "--host must be a name or address of this computer" in capsys.readouterr().err
    assert main(["serve", *missing, "--max-mb", "0"]) == 2
    assert "--max-mb must be above 0; got 0" in capsys.readouterr().err
    assert main(["serve", *missing, "--port", "0"]) == 1
    assert "nothere.safetensors" in capsys.readouterr().err


@pytest.mark.slow
def test_schemathesis_finds_no_fault_of_the_server(server: Server, tmp_path: Path) -> None:
    """Requests made of the description, valid and not, get no 5xx and what it says."""
    program = shutil.which(os.environ.get("IMGTOFMRI_SCHEMATHESIS", "schemathesis"))
    if program is None:
        pytest.skip("needs schemathesis on the PATH, or its file in IMGTOFMRI_SCHEMATHESIS")
    _, job = server.send(("files", "a.png", photo(1)))
    server.finished(job)
    known = f'[parameters]\n"path.id" = "{job["id"]}"\n"path.file" = "a.png.nii.gz"\n'
    (tmp_path / "schemathesis.toml").write_text(known)
    # Random bytes are rightly refused as images, which the description cannot say.
    left_out = "positive_data_acceptance,missing_required_header,unsupported_method"
    command = [program, "run", f"{server.address}openapi.json", "--max-examples", "25"]
    command += ["--exclude-checks", left_out, "--seed", "1", "--no-color"]
    command += ["--request-timeout", "20", "--generation-database", "none"]
    told = subprocess.run(
        command, capture_output=True, text=True, timeout=240, cwd=tmp_path, check=False
    )
    assert told.returncode == 0, told.stdout[-6000:] + told.stderr[-2000:]
