"""The library: what is in the folder counts, at every moment; what is broken stops none of the others."""

import os
import shutil
from concurrent.futures import Future
from dataclasses import replace

import pytest
import torch

from precis.artifact import Artifact
from precis.errors import SettingsError
from precis.model.soft_prompt import EmbeddingPrompt
from precis.serve.library import BrokenDocumentError, Library, UnknownDocumentError, model_of
from tests.conftest import make_model
from tests.serve.running import wordy_artifact, wordy_model

TEXTS = ["the lamp is red", "the harbour closes at nine, and the lamp is red", "the harbour"]


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return wordy_model(512)


@pytest.fixture
def folder(model, tmp_path):
    for number, text in enumerate(TEXTS):
        wordy_artifact(model, text, keep_text=number < 2).save(tmp_path / f"doc-{number}.precis")
    return tmp_path


@pytest.fixture
def make_library(folder, model):
    def make(most_bytes=10**9):
        def call(function):
            done = Future()
            try:
                done.set_result(function())
            except BaseException as error:
                done.set_exception(error)
            return done

        library = Library(folder, model, model.chat, call, most_bytes=most_bytes)
        library.refresh()
        return library

    return make


def reasons(library):
    return {entry.name: entry.reason for entry in library.entries.values() if entry.manifest is None}


def test_documents_are_opened_by_name(make_library, model, folder):
    library = make_library()
    assert list(library.entries) == ["doc-0", "doc-1", "doc-2"]
    opened = library.open("doc-1")
    expected = Artifact.open(folder / "doc-1.precis").prefix(model)
    torch.testing.assert_close(opened.prefix.keys, expected.keys)
    assert opened.prefix.next_position == expected.next_position
    assert opened.document.text == TEXTS[1]
    assert opened.reading == model.chat.document_prompt(TEXTS[1])
    assert [passage.text for passage in opened.passages.find("harbour", 3)] == [TEXTS[1]]
    assert library.open("doc-2").document is None
    assert [entry.text_kept for entry in library.entries.values()] == [True, True, False]
    assert library.open("doc-1") is opened


def test_new_changed_and_removed_files_are_noticed_when_they_are_asked_for(make_library, model, folder):
    library = make_library()
    before = library.open("doc-0")
    wordy_artifact(model, "a new text").save(folder / "new.precis")
    assert library.open("new").document.text == "a new text"
    wordy_artifact(model, "another lamp").save(folder / "doc-0.precis")
    assert library.open("doc-0").document.text == "another lamp"
    assert before.document.text == TEXTS[0]
    (folder / "doc-1.precis").unlink()
    with pytest.raises(UnknownDocumentError, match=r"no document 'doc-1'. There is: doc-0, doc-2, new\."):
        library.open("doc-1")
    (folder / "new.precis").rename(folder / "renamed.precis")
    library.refresh()
    assert list(library.entries) == ["doc-0", "doc-2", "renamed"]


def test_a_broken_file_is_told_and_the_others_go_on(make_library, folder, caplog):
    whole = (folder / "doc-0.precis").read_bytes()
    (folder / "cut.precis").write_bytes(whole[:-100])
    (folder / "empty.precis").write_bytes(b"")
    (folder / "noise.precis").write_bytes(os.urandom(5000))
    altered = bytearray(whole)
    altered[-10] ^= 1
    (folder / "altered.precis").write_bytes(altered)
    library = make_library()
    assert reasons(library).keys() == {"cut", "empty", "noise", "altered"}
    assert "altered after it was written" in reasons(library)["altered"]
    assert "cut.precis is not a whole .precis file" in reasons(library)["cut"]
    assert str(folder) not in str(reasons(library))
    assert "cut.precis is left out" in caplog.text
    with pytest.raises(BrokenDocumentError, match="cut cannot be asked"):
        library.open("cut")
    assert library.open("doc-0").document.text == TEXTS[0]
    warnings = caplog.text.count("left out")
    library.refresh()
    assert caplog.text.count("left out") == warnings
    # mended, it can be asked
    (folder / "cut.precis").write_bytes(whole)
    assert library.open("cut").document.text == TEXTS[0]


def test_a_file_for_another_model_is_left_out(make_library, folder):
    other = make_model("llama", seed=9)
    wordy_artifact(other, TEXTS[0]).save(folder / "other.precis")
    library = make_library()
    assert "compiled for llama" in reasons(library)["other"]
    with pytest.raises(UnknownDocumentError) as unknown:
        library.open("x")
    assert "other" not in str(unknown.value)


def test_a_name_is_never_a_path(make_library, folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    shutil.copy(folder / "doc-0.precis", outside / "secret.precis")
    (folder / "sub").mkdir()
    shutil.copy(folder / "doc-0.precis", folder / "sub" / "inner.precis")
    shutil.copy(folder / "doc-0.precis", folder / ".hidden.precis")
    (folder / "folder.precis").mkdir()
    library = make_library()
    assert list(library.entries) == ["doc-0", "doc-1", "doc-2"]
    for name in (f"../{outside.name}/secret", f"{outside}/secret", "sub/inner", ".hidden", "", ".", "folder"):
        with pytest.raises(UnknownDocumentError):
            library.open(name)


def test_only_so_many_documents_stay_open(make_library):
    library = make_library()
    sizes = [library.open(f"doc-{number}").nbytes for number in range(3)]
    library = make_library(most_bytes=sizes[0] + sizes[1])
    first, second = library.open("doc-0"), library.open("doc-1")
    assert library.open("doc-0") is first
    library.open("doc-2")  # doc-1 was used longest ago
    assert library.open("doc-0") is first
    assert library.open("doc-1") is not second
    tiny = make_library(most_bytes=1)
    assert tiny.open("doc-0") is tiny.open("doc-0")
    assert tiny.open_bytes == sizes[0]


def test_a_soft_prompt_of_embeddings_is_read_where_the_model_is(make_library, model, folder):
    artifact = Artifact.open(folder / "doc-0.precis")
    embeddings = model.embed([20, 21, 22])
    manifest = replace(artifact.manifest, form=EmbeddingPrompt.form, slots=3)
    Artifact(manifest, {"embeddings": embeddings}).save(folder / "embedded.precis")
    opened = make_library().open("embedded")
    torch.testing.assert_close(opened.prefix.keys, model.prefill([20, 21, 22]).keys)


def test_an_empty_library_says_so(make_library, folder):
    for path in folder.glob("*.precis"):
        path.unlink()
    with pytest.raises(UnknownDocumentError, match="library is empty"):
        make_library().open("x")


def test_among_many_names_the_nearest_are_told(make_library, folder):
    for number in range(30):
        shutil.copy(folder / "doc-0.precis", folder / f"book-{number:02}.precis")
    shutil.copy(folder / "doc-0.precis", folder / "zebra.precis")
    with pytest.raises(UnknownDocumentError) as unknown:
        make_library().open("zebras")
    assert "There is: zebra" in str(unknown.value)
    assert "and 24 more (GET /v1/models)" in str(unknown.value)


def test_a_folder_that_is_gone_has_no_documents(make_library, folder, caplog):
    library = make_library()
    shutil.rmtree(folder)
    with pytest.raises(UnknownDocumentError):
        library.open("doc-0")
    assert "cannot be read" in caplog.text


def test_the_model_is_the_one_that_the_files_name(folder, model):
    assert model_of(folder) == "wordy"
    assert model_of(folder, "other") == "other"
    (folder / "noise.precis").write_bytes(b"noise")
    assert model_of(folder) == "wordy"
    wordy_artifact(make_model("llama"), TEXTS[0]).save(folder / "other.precis")
    with pytest.raises(SettingsError, match=r"different models .*say which"):
        model_of(folder)
    assert model_of(folder, "wordy") == "wordy"
    for path in folder.glob("*.precis"):
        path.unlink()
    assert model_of(folder) is None
    with pytest.raises(SettingsError, match="no folder"):
        model_of(folder / "none")
