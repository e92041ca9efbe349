"""The queue: real compiles in real processes, and every way in which one can go wrong."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import psutil
import pytest
from filelock import FileLock

from precis.artifact import Artifact
from precis.errors import SettingsError, StorageError
from precis.serve.jobs import compile_process
from precis.serve.jobs.compile_job import ProgressLines, run
from precis.serve.jobs.job import Job, QueueFullError, UnknownJobError
from precis.serve.jobs.order import Order
from precis.serve.jobs.queue import Jobs
from precis.text.readers import READABLE
from tests.conftest import RECALL_MODEL
from tests.recall import document_text, make_facts, question_text
from tests.serve.conftest import surround

FACTS = make_facts(20, seed=5)
QUESTIONS = tuple(question_text(fact, phrasing) for fact in FACTS for phrasing in range(6))
SLEEPER = (sys.executable, "-c", "import sys; sys.stdin.read()")
PATIENCE = 120

pytestmark = pytest.mark.usefixtures("surroundings")


@contextlib.asynccontextmanager
async def running(library, **settings):
    jobs = Jobs(library, model=str(RECALL_MODEL), **settings)
    await jobs.start()
    try:
        yield jobs
    finally:
        await jobs.close()


def make_job(jobs, id="doc-1", text=None, **changes):
    jobs.folder.uploads.mkdir(parents=True, exist_ok=True)
    (jobs.folder.uploads / f"{id}.md").write_text(document_text(FACTS) if text is None else text)
    values = {
        "id": id,
        "name": "facts",
        "filename": "Fakten ö.md",
        "bytes": 5,
        "key": f"key-of-{id}",
        "suffix": ".md",
        "settings": {"ratio": 5},
        "questions": QUESTIONS,
        "created_at": int(time.time()),
    }
    return Job(**{**values, **changes})


async def end_of(jobs, id="doc-1"):
    """Wait for a document's end; give all that was seen of it."""
    async with asyncio.timeout(PATIENCE):
        return [job async for job in jobs.changes(id)]


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not (value := condition()):
            await asyncio.sleep(0.02)
        return value


def compiles(of=None):
    """The processes of compiles that belong to a process."""
    with contextlib.suppress(psutil.NoSuchProcess):
        found = psutil.Process(of).children(recursive=True)
        return [child for child in found if "precis.serve.jobs.compile_job" in " ".join(child.cmdline())]
    return []


def is_gone(process):
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What a compile gives that nothing happens to."""
    library = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        surround(patch, library)

        async def run():
            async with running(library) as jobs:
                job = await jobs.add(make_job(jobs))
                seen = await end_of(jobs)
                await until(lambda: not jobs.folder.work_of(job).exists())
                return seen

        return (asyncio.run(run()), library)


def test_a_document_can_be_asked_before_its_compile_ends(undisturbed):
    seen, _ = undisturbed
    assert [job.status for job in seen][-1] == "ready"
    stages = list(dict.fromkeys(job.stage for job in seen if job.stage))
    assert stages == ["asking", "teaching", "scoring", "fitting", "training", "calibrating"]
    first = next(job for job in seen if job.curve)
    assert (first.status, first.stage) == ("running", "asking")
    assert [step for step, _ in first.curve] == [0]
    # then σ₀ from all questions, and what training makes of it
    curves = list(dict.fromkeys(job.curve for job in seen if job.stage == "training"))
    assert len(curves) > 2
    assert curves[1][0][0] == 0
    assert len(seen[-1].curve) > 2
    assert seen[-1].curve[-1][1] > 0.7
    assert seen[-1].seconds_spent > 0
    assert any(job.seconds_left for job in seen if job.stage == "training")
    assert (seen[-1].stage, seen[-1].seconds_left, seen[-1].error) == (None, None, None)


def test_the_compiled_file_keeps_the_text_under_the_clients_file_name(undisturbed):
    _, library = undisturbed
    artifact = Artifact.open(library / "facts.precis")
    document = artifact.document()
    assert document.text == document_text(FACTS)
    assert (document.name, document.pages[0].source) == ("Fakten ö.md", "Fakten ö.md")
    assert artifact.manifest.confidence is not None


def test_of_the_work_nothing_is_left_but_the_upload(undisturbed):
    _, library = undisturbed
    left = {path.name for path in (library / ".precis-serve").rglob("*") if path.is_file()}
    assert left <= {"doc-1.md", "jobs.sqlite", "jobs.sqlite-wal", "jobs.sqlite-shm", "lock"}
    assert "doc-1.md" in left


SERVER = """
    import asyncio, sys
    from pathlib import Path
    from precis.serve.jobs.queue import Jobs

    async def main():
        jobs = Jobs(Path(sys.argv[1]), model=sys.argv[2])
        await jobs.start()
        await asyncio.sleep(600)

    asyncio.run(main())
"""


def test_a_killed_server_loses_no_document_and_goes_on(library, undisturbed):
    """`kill -9` of the server in mid-compile, twice, with a second document in the queue."""

    async def enqueue():
        async with running(library) as jobs:
            await jobs.add(make_job(jobs))
            await jobs.add(make_job(jobs, "doc-2", name="other"))

    with pytest.MonkeyPatch.context() as patch:  # what is queued by a server that dies before it begins
        patch.setattr(compile_process, "COMPILE_COMMAND", SLEEPER)
        asyncio.run(enqueue())
    for kept, count in (("gold-*", 1), ("training-*", 2)):  # the first σ leaves a training-* of its own
        server = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SERVER), str(library), str(RECALL_MODEL)]
        )
        try:
            deadline = time.monotonic() + PATIENCE
            work = library / ".precis-serve" / "work" / "key-of-doc-1"
            while len(list(work.glob(f"*/{kept}"))) < count:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            (child,) = compiles(server.pid)
        finally:
            server.send_signal(signal.SIGKILL)
            server.wait()
        psutil.wait_procs([child], timeout=PATIENCE)
        assert is_gone(child)

    async def go_on():
        async with running(library) as jobs:
            begun = [job.status for job in jobs.all()]
            await asyncio.gather(end_of(jobs), end_of(jobs, "doc-2"))
            return begun, jobs.all()

    begun, ended = asyncio.run(go_on())
    assert begun == ["queued", "queued"]
    assert [(job.status, job.name) for job in ended] == [("ready", "facts"), ("ready", "other")]
    wanted = (undisturbed[1] / "facts.precis").read_bytes()
    assert (library / "facts.precis").read_bytes() == wanted
    assert (library / "other.precis").read_bytes() == wanted
    assert not list(library.glob(".*.precis.*"))


def test_a_killed_compile_goes_on(library, undisturbed):
    async def run():
        async with running(library) as jobs:
            job = await jobs.add(make_job(jobs))
            await until(lambda: list(jobs.folder.work_of(job).glob("*/gold-*")))
            (child,) = compiles()
            child.kill()
            return await end_of(jobs)

    seen = asyncio.run(run())
    assert seen[-1].status == "ready"
    assert (library / "facts.precis").read_bytes() == (undisturbed[1] / "facts.precis").read_bytes()


def test_one_that_dies_every_time_fails_and_the_next_goes_on(library, monkeypatch):
    dying = (sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")

    async def run():
        async with running(library) as jobs:
            monkeypatch.setattr(compile_process, "COMPILE_COMMAND", dying)
            await jobs.add(make_job(jobs))
            first = (await end_of(jobs))[-1]
            monkeypatch.undo()
            surround(monkeypatch, library.parent)
            await jobs.add(make_job(jobs, "doc-2", text="", questions=()))
            return first, (await end_of(jobs, "doc-2"))[-1]

    first, second = asyncio.run(run())
    assert first.status == "failed"
    assert "ended 3 times without saying why (exit code -9)" in first.error
    assert second.status == "failed"
    assert second.error == f"Fakten ö.md: the file is empty; expected {READABLE}"


FAULTY = {
    "full disk": (
        "import errno, os\ndef full(_): raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "os.fsync = full",
        "The server has no room left on its disk.",
    ),
    "error of its own": (
        "import precis.storage as w\ndef broken(*_): raise ZeroDivisionError('secret text')\n"
        "w.WorkFolder.write_json = broken",
        "The compile ended with an error of its own (ZeroDivisionError)",
    ),
    "out of memory": (
        "import precis.storage as w\ndef broken(*_): raise MemoryError\nw.WorkFolder.write_json = broken",
        "needs more memory than there is",
    ),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_a_compile_that_goes_wrong_says_why_and_the_same_file_goes_on(
    library, undisturbed, monkeypatch, fault
):
    code, reason = FAULTY[fault]
    script = f"{code}\nfrom precis.serve.jobs.compile_job import main\nmain()"

    async def run():
        async with running(library) as jobs:
            monkeypatch.setattr(compile_process, "COMPILE_COMMAND", (sys.executable, "-c", script))
            await jobs.add(make_job(jobs, key="same"))
            first = (await end_of(jobs))[-1]
            usable = jobs.usable(first)
            monkeypatch.setattr(
                compile_process, "COMPILE_COMMAND", (sys.executable, "-m", "precis.serve.jobs.compile_job")
            )
            await jobs.add(make_job(jobs, "doc-2", key="same"))
            return first, usable, (await end_of(jobs, "doc-2"))[-1]

    first, usable, second = asyncio.run(run())
    assert first.status == "failed"
    assert reason in first.error
    assert str(library) not in first.error
    assert "secret" not in first.error
    assert not usable
    assert (second.status, second.name) == ("ready", "facts-2")
    assert (library / "facts-2.precis").read_bytes() == (undisturbed[1] / "facts.precis").read_bytes()


def test_cancelling_keeps_what_was_published_and_lets_the_next_begin(library):
    async def run():
        async with running(library) as jobs:
            await jobs.add(make_job(jobs))
            await jobs.add(make_job(jobs, "doc-2", name="waiting"))
            await until(lambda: jobs.usable(jobs.get("doc-1")))
            (child,) = compiles()
            waiting = await jobs.cancel("doc-2")
            assert (waiting.status, jobs.usable(waiting)) == ("cancelled", False)
            cancelled = await jobs.cancel("doc-1")
            assert is_gone(child)
            assert (cancelled.status, cancelled.stage) == ("cancelled", None)
            assert cancelled.finished_at >= cancelled.created_at
            assert jobs.usable(cancelled)
            Artifact.open(library / "facts.precis")
            assert await jobs.cancel("doc-1") == cancelled
            monkey = await jobs.add(make_job(jobs, "doc-3", text=""))
            assert (await end_of(jobs, monkey.id))[-1].status == "failed"

    asyncio.run(run())


def test_deleting_removes_everything_and_ends_what_listens(library):
    async def run():
        async with running(library) as jobs:
            job = await jobs.add(make_job(jobs))
            listener = asyncio.create_task(end_of(jobs))
            await until(lambda: jobs.usable(job))
            await jobs.delete(job.id)
            assert not (await listener)[-1].is_final or (await listener)[-1].status == "cancelled"
            with pytest.raises(UnknownJobError, match="There is no document 'doc-1'"):
                jobs.get(job.id)
            assert not compiles()
            left = {path.name for path in library.rglob("*") if path.is_file()}
            assert left <= {"jobs.sqlite", "jobs.sqlite-wal", "jobs.sqlite-shm", "lock"}
        async with running(library) as jobs:
            assert jobs.all() == []

    asyncio.run(run())


def test_deleting_leaves_a_file_that_the_compile_never_wrote(library, monkeypatch):
    monkeypatch.setattr(compile_process, "COMPILE_COMMAND", SLEEPER)

    async def run():
        async with running(library) as jobs:
            job = await jobs.add(make_job(jobs))
            other = library / f"{job.name}.precis"
            other.write_bytes(b"somebody else's")  # copied into the library meanwhile
            assert not jobs.usable(job)
            await jobs.delete(job.id)
            assert other.read_bytes() == b"somebody else's"

    asyncio.run(run())


def test_a_compile_ends_with_its_server_and_never_runs_beside_another(library, tmp_path):
    jobs = Jobs(library, model=str(RECALL_MODEL))
    job = make_job(jobs)
    order = {
        "upload": str(jobs.folder.upload_of(job)),
        "filename": "x.md",
        "target": str(library / "x.precis"),
        "work": str(tmp_path / "work"),
        "lock": str(tmp_path / "work.lock"),
        "mark": "doc-1",
        "model": str(RECALL_MODEL),
        "settings": {},
        "questions": [],
    }
    script = "import precis.serve.jobs.compile_job as job\njob.LOCK_SECONDS = {}\njob.main()"

    def start(seconds):
        process = subprocess.Popen(
            [sys.executable, "-c", script.format(seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
        return process

    with FileLock(tmp_path / "work.lock"):
        process = start(0.1)
        report = json.loads(process.stdout.readline())
        assert report["status"] == "failed"
        assert "Another process still compiles this document" in report["error"]
        assert process.wait(PATIENCE) == 0
        process.stdin.close()
        waiting = start(PATIENCE)
        waiting.stdin.close()  # as if the server died
        assert waiting.wait(PATIENCE) == 1
        assert waiting.stdout.read() == b""
    assert not (library / "x.precis").exists()


@pytest.mark.parametrize("published", [True, False])
def test_a_run_that_goes_on_does_not_fall_back_to_the_first_soft_prompt(
    library, tmp_path, monkeypatch, published
):
    upload, work = tmp_path / "x.md", tmp_path / "work"
    upload.write_text(document_text(FACTS))
    work.mkdir()
    if published:
        (work / "doc-1.published").touch()
        (library / "x.precis").write_bytes(b"what an earlier run published")
    settings = {"ratio": 5, "self_study": 0}
    order = Order(
        *(upload, "x.md", library / "x.precis", work, tmp_path / "lock", "doc-1"),
        *(str(RECALL_MODEL), settings, list(QUESTIONS)),
    )
    first = []
    monkeypatch.setattr("precis.compilation.pipeline._publish_first", lambda *_: first.append(True))
    with (tmp_path / "progress").open("w") as output:
        run(order, ProgressLines(output))
    assert bool(first) != published
    assert Artifact.open(library / "x.precis").manifest.confidence is not None
    reports = [json.loads(line) for line in (tmp_path / "progress").read_text().splitlines()]
    assert reports[-1] == {"status": "ready"}
    assert all(one.keys() <= compile_process.REPORTED | {"note"} for one in reports)


def test_a_file_of_somebody_elses_is_left_as_it_is(library):
    async def run():
        async with running(library) as jobs:
            (library / "FACTS.precis").write_text("mine")
            assert jobs.folder.free_name("facts", jobs.all()) == "facts-2"
            await jobs.add(make_job(jobs))
            (library / "facts-2.precis").write_text("mine, too")
            return (await end_of(jobs))[-1]

    job = asyncio.run(run())
    assert job.status == "failed"
    assert "A file facts-2.precis came into the library meanwhile" in job.error
    assert (library / "facts-2.precis").read_text() == "mine, too"


@pytest.fixture
def asleep(monkeypatch):
    """Compiles that never get anywhere."""
    monkeypatch.setattr(compile_process, "COMPILE_COMMAND", SLEEPER)


def test_a_second_server_is_refused(library, asleep):
    async def run():
        async with running(library):
            with pytest.raises(SettingsError, match="Another 'precis serve' has the library"):
                await Jobs(library).start()
        async with running(library):
            pass

    asyncio.run(run())


def test_listeners_share_what_is_said_and_leave_nothing_behind(library, asleep):
    async def run():
        async with running(library) as jobs:
            job = await jobs.add(make_job(jobs))
            listeners = [asyncio.create_task(end_of(jobs)) for _ in range(50)]
            gone = [jobs.changes(job.id) for _ in range(50)]
            for listener in gone:
                await anext(listener)
                asyncio.create_task(anext(listener)).cancel()
            await until(lambda: jobs.get(job.id).status == "running")
            for listener in gone:
                with contextlib.suppress(StopAsyncIteration):
                    await listener.aclose()
            await jobs.cancel(job.id)
            seen = await asyncio.gather(*listeners)
            assert {tuple(job.status for job in one)[-1] for one in seen} == {"cancelled"}
            assert {one[0].status for one in seen} <= {"queued", "running"}
            assert jobs.records.watchers == 0

    asyncio.run(run())


def test_when_the_server_stops_listeners_end_and_the_compile_is_queued_again(library, asleep):
    async def run():
        async with running(library) as jobs:
            await jobs.add(make_job(jobs))
            listener = asyncio.create_task(end_of(jobs))
            await asyncio.sleep(0)  # the listener begins
            await until(lambda: jobs.get("doc-1").status == "running")
        assert (await listener)[-1].status in ("queued", "running")
        assert not [child for child in psutil.Process().children() if "stdin.read" in str(child.cmdline())]
        async with running(library) as jobs:
            assert [job.status for job in jobs.all()] == ["queued"]

    asyncio.run(run())


def test_no_more_wait_than_may(library, asleep):
    async def run():
        async with running(library, most_waiting=1) as jobs:
            await jobs.add(make_job(jobs))
            await until(lambda: jobs.get("doc-1").status == "running")
            await jobs.add(make_job(jobs, "doc-2"))
            with pytest.raises(QueueFullError, match="1 documents wait"):
                await jobs.add(make_job(jobs, "doc-3"))
            assert [job.name for job in jobs.all()] == ["facts", "facts-2"]

    asyncio.run(run())


def test_a_full_disk_refuses_new_documents_and_forgets_no_old_one(library, asleep):
    async def run():
        async with running(library) as jobs:
            await jobs.add(make_job(jobs))
            await until(lambda: jobs.get("doc-1").status == "running")
            database = jobs.records._store._database
            database.execute(f"PRAGMA max_page_count={database.execute('PRAGMA page_count').fetchone()[0]}")
            big = make_job(jobs, "doc-2", questions=("What?" * 10_000,))
            with pytest.raises(StorageError, match="full"):
                await jobs.add(big)
            assert [job.id for job in jobs.all()] == ["doc-1"]
            # progress that cannot be written is shown all the same
            jobs.records.change("doc-1", status="failed", notes=("x" * 100_000,))
            assert jobs.get("doc-1").status == "failed"
        async with running(library) as jobs:
            assert [job.id for job in jobs.all()] == ["doc-1"]

    asyncio.run(run())


def test_what_a_killed_upload_left_is_swept(library, asleep):
    async def run():
        async with running(library) as jobs:
            await jobs.add(make_job(jobs))
            (jobs.folder.uploads / "doc-half.pdf").write_bytes(b"%PDF")
            (jobs.folder.data / "work" / "nobody").mkdir(parents=True)
        async with running(library) as jobs:
            assert [path.name for path in jobs.folder.uploads.iterdir()] == ["doc-1.md"]
            assert not (jobs.folder.data / "work" / "nobody").exists()

    asyncio.run(run())


def test_a_damaged_queue_is_told(library):
    (library / ".precis-serve").mkdir()
    (library / ".precis-serve" / "jobs.sqlite").write_bytes(b"no database at all" * 100)

    async def run():
        for _ in range(2):  # the library is not left locked
            with pytest.raises(StorageError, match=r"jobs\.sqlite cannot be .* move it away"):
                await Jobs(library).start()

    asyncio.run(run())


def test_what_a_compile_says_wrongly_is_passed_over(library, asleep):
    async def run():
        async with running(library) as jobs:
            job = await jobs.add(make_job(jobs))
            await until(lambda: jobs.get(job.id).status == "running")
            before = jobs.get(job.id)
            for line in (b"Loading weights\n", b"[1, 2]\n", b"3\n", b"\xff\n", b""):
                jobs.compiler.take_in(job.id, line, 1.0)
            assert jobs.get(job.id) == before
            jobs.compiler.take_in(job.id, b'{"name": "../evil", "id": "x", "done": 3}\n', 1.0)
            assert jobs.get(job.id) == replace(before, done=3, seconds_spent=1.0)

    asyncio.run(run())


def test_an_order_arrives_as_it_was_sent(library):
    jobs = Jobs(library)
    order = Order.of(make_job(jobs), jobs.folder, str(RECALL_MODEL))
    sent = order.to_json()
    assert "\n" not in sent
    assert Order.from_json(sent) == replace(order, questions=list(QUESTIONS))


def test_the_time_left_goes_by_the_speed_of_this_run(monkeypatch, tmp_path):
    now = [0.0]
    monkeypatch.setattr("precis.serve.jobs.compile_job.time.monotonic", lambda: now[0])
    with (tmp_path / "out").open("w") as output:
        progress = ProgressLines(output)
        assert progress.seconds_left() is None
        progress.stage("training", 100)
        progress.advance(40)  # of an earlier run
        now[0] = 10.0
        progress.advance(10)
        left = progress.seconds_left()
        assert left > 50  # 50 steps at one a second, and calibrating
        assert left < 70
        progress.minutes = 0.5
        assert progress.seconds_left() == 20.0
        progress.stage("asking", None)  # as many questions as there is time for
        progress.advance(40)
        assert progress.seconds_left() == 20.0
    last = json.loads((tmp_path / "out").read_text().splitlines()[-1])
    assert (last["done"], last["total"]) == (40, 0)
