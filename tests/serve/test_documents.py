"""Uploading: what is taken, what is refused and why, and that no name leaves the folder."""

import asyncio
import contextlib
import errno
import io
import json
import os
import sys
import threading
import time

import httpx2
import pytest
import uvicorn
from docx import Document as WordDocument
from fastapi import FastAPI
from starlette.requests import Request
from starlette.testclient import TestClient

from precis.artifact import Artifact
from precis.serve.api import documents
from precis.serve.api.api_error import ApiError
from precis.serve.api.limits import BodyLimit, Limits
from precis.serve.api.uploads import safe_name, shown_filename
from precis.serve.jobs import check_process, compile_process
from precis.serve.jobs.queue import Jobs
from tests.conftest import RECALL_MODEL
from tests.recall import document_text, make_facts, question_text

FACTS = make_facts(20, seed=5)
QUESTIONS = [question_text(fact, phrasing) for fact in FACTS for phrasing in range(6)]
PATIENCE = 120

pytestmark = pytest.mark.usefixtures("surroundings")


@pytest.fixture
def asleep(monkeypatch):
    """Compiles that never get anywhere."""
    sleeper = (sys.executable, "-c", "import sys; sys.stdin.read()")
    monkeypatch.setattr(compile_process, "COMPILE_COMMAND", sleeper)


def make_app(library, **settings):
    @contextlib.asynccontextmanager
    async def lifespan(app):
        app.state.jobs = Jobs(library, model=str(RECALL_MODEL), **settings)
        await app.state.jobs.start()
        try:
            yield
        finally:
            await app.state.jobs.close()

    app = FastAPI(lifespan=lifespan)
    app.include_router(documents.router)

    async def refused(_: Request, error: ApiError):
        return error.response()

    app.add_exception_handler(ApiError, refused)
    app.add_middleware(BodyLimit, limits=Limits(upload_bytes=100_000), uploads=frozenset({"/v1/documents"}))
    return app


@pytest.fixture
def client(library, asleep):
    with TestClient(make_app(library)) as client:
        yield client


def send(client, content=b"The harbour is red.", filename="harbour.md", **fields):
    return client.post("/v1/documents", files={"file": (filename, content)}, data=fields)


def error_of(response):
    return response.status_code, response.json()["error"]


def test_an_upload_is_taken_and_listed(client, library):
    response = send(client, name="guide", ratio="5", minutes="2", questions="Who?\n\n Why? \n")
    assert response.status_code == 202
    document = response.json()
    assert document["status"] in ("queued", "running")
    assert (document["name"], document["filename"], document["bytes"]) == ("guide", "harbour.md", 19)
    assert (document["usable"], document["text_kept"], document["curve"]) == (False, True, [])
    assert abs(document["created_at"] - time.time()) < PATIENCE
    listed = client.get("/v1/documents").json()
    assert [item["id"] for item in listed["data"]] == [document["id"]]
    assert client.get(f"/v1/documents/{document['id']}").json()["name"] == "guide"
    job = client.app.state.jobs.get(document["id"])
    assert (job.settings, job.questions) == ({"ratio": 5.0, "minutes": 2.0}, ("Who?", "Why?"))
    assert client.app.state.jobs.folder.upload_of(job).read_bytes() == b"The harbour is red."


def test_fields_that_are_left_empty_say_nothing(client):
    document = send(client, name="", ratio="", slots="", minutes="", questions="").json()
    job = client.app.state.jobs.get(document["id"])
    assert (document["name"], job.settings, job.questions) == ("harbour", {}, ())


def word_file():
    content = io.BytesIO()
    word = WordDocument()
    word.add_paragraph("The harbour is red.")
    word.save(content)
    return content.getvalue()


def test_every_kind_that_can_be_read_is_taken(client):
    for filename, content in {
        "a.docx": word_file(),
        "b.html": b"<p>The harbour is red.</p>",
        "c.txt": "Der Hafen für Boote".encode("utf-16"),
        "d.py": b"harbour = 'red'",
        "README": b"The harbour is red.",
    }.items():
        response = send(client, content, filename)
        assert response.status_code == 202, response.text
    suffixes = [
        client.app.state.jobs.get(item["id"]).suffix for item in client.get("/v1/documents").json()["data"]
    ]
    assert suffixes == [".docx", ".html", ".txt", ".py", ""]


REFUSED = {
    "picture": ("x.PNG", b"\x89PNG", 415, "of the kind .png"),
    "archive": ("x.zip", b"PK", 415, "of the kind .zip"),
    "compiled": ("x.precis", b"x", 415, "of the kind .precis"),
    "empty": ("x.md", b" \n", 422, "x.md: the file is empty"),
    "damaged PDF": ("x.pdf", b"%PDF-1.7 nothing", 422, "x.pdf: a damaged or cut-off PDF"),
    "damaged DOCX": ("x.docx", b"PK\x03\x04", 422, "x.docx: a damaged or cut-off DOCX"),
    "binary": ("x.txt", b"\x00\x01\x02", 422, "x.txt: not a format that can be read"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_refused_with_the_reason(client, library, kind):
    filename, content, status, reason = REFUSED[kind]
    got, error = error_of(send(client, content, filename))
    assert (got, error["param"]) == (status, "file")
    assert reason in error["message"]
    assert str(library) not in error["message"]
    assert client.get("/v1/documents").json()["data"] == []
    assert list(client.app.state.jobs.folder.uploads.iterdir()) == []


def test_a_file_that_breaks_its_reader_is_refused(client, monkeypatch):
    for script in ("import os; os.kill(os.getpid(), 11)", "print('{}')", "raise MemoryError"):
        monkeypatch.setattr(check_process, "CHECK_COMMAND", (sys.executable, "-c", script))
        status, error = error_of(send(client))
        assert (status, error["code"]) == (422, "unreadable_document")
        assert "reading it failed" in error["message"]
    monkeypatch.setattr(check_process, "CHECK_COMMAND", (sys.executable, "-c", "while True: pass"))
    monkeypatch.setattr(check_process, "READING_SECONDS", 0.2)
    status, error = error_of(send(client))
    assert status == 422
    assert "longer than 0 seconds" in error["message"]
    assert list(client.app.state.jobs.folder.uploads.iterdir()) == []


def test_what_unpacks_to_too_much_is_refused(client):
    import zipfile

    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
        text = f'<w:document xmlns:w="{space}"><w:p><w:t>{"red " * 9_000_000}</w:t></w:p></w:document>'
        archive.writestr("word/document.xml", text)
    assert len(content.getvalue()) < 100_000
    status, error = error_of(send(client, content.getvalue(), "bomb.docx"))
    assert status == 422
    assert "30,000,000 are the most" in error["message"]


WRONG_FIELDS = {
    "ratio below one": ({"ratio": "0.5"}, "ratio", "1 or more"),
    "ratio in words": ({"ratio": "many"}, "ratio", "it must be a number"),
    "ratio without bound": ({"ratio": "inf"}, "ratio", "it must be a number"),
    "half a slot": ({"slots": "2.5"}, "slots", "it must be a whole number"),
    "no slots": ({"slots": "0"}, "slots", "0 slots"),
    "negative minutes": ({"minutes": "-1"}, "minutes", "0 or more"),
    "no number": ({"minutes": "nan"}, "minutes", "it must be a number"),
    "ratio and slots": ({"ratio": "5", "slots": "5"}, "slots", "not both"),
    "unknown": ({"model": "x"}, "model", "There is no field 'model'"),
    "twice": ({"name": ["a", "b"]}, "name", "more than once"),
}


@pytest.mark.parametrize("wrong", WRONG_FIELDS)
def test_a_wrong_field_is_named(client, wrong):
    fields, param, reason = WRONG_FIELDS[wrong]
    status, error = error_of(send(client, **fields))
    assert (status, error["param"]) == (400, param)
    assert reason in error["message"]


def test_a_body_of_another_kind_is_refused(client):
    status, error = error_of(client.post("/v1/documents", json={"file": "x"}))
    assert status == 415
    assert "application/json; send multipart/form-data" in error["message"]
    status, error = error_of(client.post("/v1/documents"))
    assert status == 415
    status, error = error_of(client.post("/v1/documents", data={"file": "text"}, files={"name": b""}))
    assert (status, error["param"]) == (400, "file")
    for boundary in ("", "; boundary=x"):
        response = client.post(
            "/v1/documents", content=b"nothing", headers={"content-type": f"multipart/form-data{boundary}"}
        )
        assert response.status_code == 400


def test_too_large_a_body_is_refused_whether_it_says_so_or_not(client):
    assert send(client, b"x" * 200_000).status_code == 413

    def pieces():
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.md"\r\n\r\n'
        for _ in range(20):
            yield b"x" * 10_000

    kind = {"content-type": "multipart/form-data; boundary=b"}
    assert client.post("/v1/documents", content=pieces(), headers=kind).status_code == 413
    assert list(client.app.state.jobs.folder.uploads.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_where_the_disk_gives_out_the_upload_is_refused_whole(client, monkeypatch, number):
    def out(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", out)
    status, error = error_of(send(client))
    assert status == 507
    assert ("disk is full" in error["message"]) == (number == errno.ENOSPC)
    assert list(client.app.state.jobs.folder.uploads.iterdir()) == []
    monkeypatch.undo()
    assert client.get("/v1/documents").json()["data"] == []


def test_a_full_queue_says_when_to_come_again(library, asleep):
    with TestClient(make_app(library, most_waiting=0)) as client:
        response = send(client)
        assert error_of(response)[0] == 429
        assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("Hafen-Buch_2.1", "Hafen-Buch_2.1"),
        ("../../etc/passwd", "etc-passwd"),
        ("..", "document"),
        (".hidden", "hidden"),
        ("a/b\\c:d*e", "a-b-c-d-e"),
        ("Häfen & Café", "Hafen-Cafe"),
        ("名前", "document"),
        ("", "document"),
        ("x" * 300, "x" * 80),
        ("nul\x00byte\n", "nul-byte"),
        ("-rf", "rf"),
    ],
)
def test_names_are_plain_and_stay_in_the_folder(wanted, name):
    assert safe_name(wanted) == name


def test_no_name_leads_out_of_the_library(client, library):
    outside = sorted(library.parent.rglob("*.precis"))
    names = []
    for filename in ("../../evil.md", "C:\\fakepath\\evil.md", "/etc/evil.md", "..\\.md"):
        response = send(client, filename=filename, name="../../" + filename)
        document = response.json()
        names.append(document["name"])
        job = client.app.state.jobs.get(document["id"])
        assert client.app.state.jobs.folder.artifact_of(job).parent == library
        assert client.app.state.jobs.folder.upload_of(job).parent == library / ".precis-serve" / "uploads"
        assert "/" not in document["filename"]
        assert "\\" not in document["filename"]
    assert len(set(names)) == 4
    assert sorted(library.parent.rglob("*.precis")) == outside


def test_shown_file_names_have_no_paths_and_nothing_unseen():
    assert shown_filename("C:\\a\\b c ö.pdf") == "b c ö.pdf"
    assert shown_filename("a\u202eb\x00.md") == "ab.md"
    assert shown_filename("../") == "document"
    assert len(shown_filename("x" * 1000 + ".pdf")) == 255


def test_a_name_that_is_taken_gets_a_number(client, library):
    (library / "Guide.precis").write_bytes(b"")
    names = [send(client, name="guide").json()["name"] for _ in range(2)]
    assert names == ["guide-2", "guide-3"]
    assert send(client, name="x" * 80).json()["name"] == "x" * 80
    assert send(client, name="x" * 80).json()["name"] == "x" * 78 + "-2"


def test_unknown_documents_are_404(client):
    for method, path in (
        ("GET", ""),
        ("GET", "/events"),
        ("POST", "/cancel"),
        ("DELETE", ""),
    ):
        for id in ("doc-x", "x..", "%00"):
            status, error = error_of(client.request(method, f"/v1/documents/{id}{path}"))
            assert (status, error["code"]) == (404, "document_not_found")
        assert client.request(method, f"/v1/documents/..%2f..%2fetc{path}").status_code == 404


def test_cancel_and_delete(client, library):
    id = send(client).json()["id"]
    cancelled = client.post(f"/v1/documents/{id}/cancel").json()
    assert (cancelled["status"], cancelled["usable"]) == ("cancelled", False)
    assert client.post(f"/v1/documents/{id}/cancel").json() == cancelled
    assert client.delete(f"/v1/documents/{id}").json() == {"id": id, "object": "document", "deleted": True}
    assert client.get(f"/v1/documents/{id}").status_code == 404
    assert list((library / ".precis-serve" / "uploads").iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_told(client, monkeypatch):
    id = send(client).json()["id"]

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    status, error = error_of(client.delete(f"/v1/documents/{id}"))
    assert status == 500
    assert "cannot be removed: Permission denied" in error["message"]
    monkeypatch.undo()
    assert client.get(f"/v1/documents/{id}").status_code == 200


@pytest.fixture
def server(library):
    """A real server on a port of its own."""
    config = uvicorn.Config(make_app(library), host="127.0.0.1", port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + PATIENCE
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            client.jobs = config.app.state.jobs  # type: ignore[attr-defined]
            yield client
    finally:
        server.should_exit = True
        thread.join()


def events_of(response):
    """The documents that a stream of events tells."""
    kind = None
    for line in response.iter_lines():
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            assert kind == "document"
            yield json.loads(line.removeprefix("data: "))


def test_events_tell_the_whole_way_from_upload_to_ready(server, library):
    document = send(server, document_text(FACTS), questions="\n".join(QUESTIONS), ratio="5").json()
    with server.stream("GET", f"/v1/documents/{document['id']}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        seen = list(events_of(response))
    assert seen[-1]["status"] == "ready"
    assert any(one["usable"] and one["status"] == "running" for one in seen)
    assert not seen[0]["usable"]
    assert {"asking", "teaching", "training"} <= {one["stage"] for one in seen}
    assert seen[-1] == server.get(f"/v1/documents/{document['id']}").json()
    assert Artifact.open(library / "harbour.precis").document().name == "harbour.md"
    with server.stream("GET", f"/v1/documents/{document['id']}/events") as response:
        assert list(events_of(response)) == [seen[-1]]


def test_a_listener_that_goes_away_leaves_nothing_behind(server, asleep):
    document = send(server).json()
    path = f"/v1/documents/{document['id']}/events"

    def waiting():
        return server.jobs.records.watchers

    def until(condition):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    for _ in range(5):
        with server.stream("GET", path) as response:
            events = events_of(response)
            next(events)
            until(lambda: waiting() == 1)
        until(lambda: waiting() == 0)


def test_listeners_do_not_hold_up_the_servers_end(library, asleep):
    """A listener's stream ends, whole, when the server is about to stop."""
    app = make_app(library)
    loop = []

    @app.get("/loop")
    async def get_loop():
        loop.append(asyncio.get_running_loop())

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
        client.get("/loop")
        document = send(client).json()
        with client.stream("GET", f"/v1/documents/{document['id']}/events") as response:
            events = events_of(response)
            next(events)
            loop[0].call_soon_threadsafe(app.state.jobs.release_watchers)
            for _ in events:
                pass
        server.should_exit = True
    thread.join(PATIENCE)
    assert not thread.is_alive()
