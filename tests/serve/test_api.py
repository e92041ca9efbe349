"""The server as any client meets it: streams, limits, faults, keys, its end. Over real connections."""

import concurrent.futures
import contextlib
import http.client
import json
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import pytest
import torch

from precis.artifact import Artifact
from precis.errors import SettingsError
from precis.serve.api.access import check_exposure, is_loopback, read_keys
from precis.serve.app import ServerSettings, create_app
from precis.text.passages import Passages
from tests.conftest import RECALL_MODEL
from tests.serve.running import PATIENCE, limits, serving, until, wordy_artifact, wordy_model

TEXT = "the harbour closes at nine, and the lamp is red. " * 4
# So many tokens that no test waits for the last of them.
ENDLESS = 50_000
ROOMY = limits(answer_tokens=ENDLESS, memory_share=1 / 4)


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return wordy_model(window=65_536)


@pytest.fixture(scope="module")
def library(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    wordy_artifact(model, TEXT).save(folder / "talk.precis")
    wordy_artifact(model, "the lamp is red", keep_text=False).save(folder / "other.precis")
    return folder


@pytest.fixture(scope="module")
def server(library, model):
    with serving(library, model, ROOMY) as running:
        yield running


UNFINISHED = shutil.ignore_patterns(".*")


@pytest.fixture
def own_library(library, tmp_path):
    """A library for one more server: a folder has one."""
    return shutil.copytree(library, tmp_path / "library", ignore=UNFINISHED)


class Reply:
    """A status, headers and a body."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        answer = self.json()
        assert answer.keys() == {"error"}
        assert answer["error"].keys() == {"message", "type", "param", "code"}
        return answer["error"]

    def events(self):
        """The JSON of a stream's events, and whether it said that it was whole."""
        assert self.headers["content-type"].startswith("text/event-stream")
        lines = [part for part in self.body.decode().split("\n\n") if part]
        assert all(line.startswith("data: ") for line in lines)
        done = lines[-1] == "data: [DONE]"
        return [json.loads(line[6:]) for line in (lines[:-1] if done else lines)], done


def connect(server, timeout=PATIENCE):
    return http.client.HTTPConnection(urlsplit(server.address).netloc, timeout=timeout)


def send(server, method, path, body=None, headers=()):
    connection = connect(server)
    try:
        content = json.dumps(body) if isinstance(body, dict) else body
        given = {"Content-Type": "application/json", **dict(headers)}
        connection.request(method, path, content, given)
        return Reply(connection.getresponse())
    finally:
        connection.close()


def question(content="why?", **settings):
    messages = [{"role": "user", "content": content}]
    return {"model": "talk", "messages": messages, "max_tokens": 30, **settings}


def ask(server, **settings):
    return send(server, "POST", "/v1/chat/completions", question(**settings))


def answer(server, **settings):
    reply = ask(server, **settings)
    assert reply.status == 200, reply.body
    return reply.json()["choices"][0]


def text_of(events, index=0):
    choices = [choice for event in events for choice in event["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def open_stream(server, **settings):
    """Begin a stream, and give its connection once the first of it has come."""
    connection = connect(server)
    body = json.dumps(question(stream=True, **settings))
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status == 200
    assert response.readline().startswith(b"data: ")
    assert response.readline() == b"\n"
    return connection, response


def raw_request(body, path="/v1/chat/completions", host="localhost"):
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def raw_socket(server):
    address = urlsplit(server.address)
    return socket.create_connection((address.hostname, address.port), timeout=PATIENCE)


# --- streams ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.3}, {"temperature": 0.8, "top_p": 0.7}])
def test_a_stream_is_the_whole_answer_in_whole_characters(server, settings):
    for seed in range(8):
        asked = {"content": f"why {seed}?", "max_tokens": 60, "seed": seed, **settings}
        whole = answer(server, **asked)
        events, done = ask(server, stream=True, **asked).events()
        assert done
        assert text_of(events) == whole["message"]["content"]
        assert [choice["finish_reason"] for event in events for choice in event["choices"]][-1] == (
            whole["finish_reason"]
        )
        deltas = [event["choices"][0]["delta"].get("content") for event in events]
        assert whole["finish_reason"] == "stop" or sum(bool(delta) for delta in deltas) > 5


def test_stop_strings_end_an_answer_and_are_not_part_of_it(server):
    draw = random.Random(3)
    stopped = 0
    for seed in range(20):
        asked = {"content": f"why {seed}?", "max_tokens": 60, "seed": seed, "temperature": 1.2}
        text = answer(server, **asked)["message"]["content"]
        if len(text) < 10:
            continue
        place = draw.randrange(len(text) - 4)
        stops = [text[place : place + draw.randrange(1, 4)], "never said"]
        whole = answer(server, stop=stops, **asked)
        events, _ = ask(server, stop=stops, stream=True, **asked).events()
        shown = whole["message"]["content"]
        assert shown == text_of(events) == text[: text.index(stops[0])].rstrip()
        assert whole["finish_reason"] == "stop"
        pieces = [event["choices"][0]["delta"].get("content") or "" for event in events]
        assert not any(stops[0] in "".join(pieces[:end]) for end in range(len(pieces)))
        stopped += len(pieces) > 3
    assert stopped > 5


def test_a_stop_string_frees_the_row_at_once(server):
    text = answer(server)["message"]["content"]
    tokens = server.service.engine.tokens
    whole = ask(server, stop=text[3:5], max_tokens=ENDLESS).json()
    assert whole["choices"][0]["message"]["content"] == text[: text.index(text[3:5])].rstrip()
    until(lambda: server.service.engine.rows == 0)
    assert server.service.engine.tokens - tokens < ENDLESS / 10


def test_log_probabilities_of_a_stream_are_those_of_the_whole(server):
    asked = {"logprobs": True, "top_logprobs": 2, "max_tokens": 60}
    whole = answer(server, **asked)
    events, _ = ask(server, stream=True, **asked).events()
    content = whole["logprobs"]["content"]
    parts = [event["choices"][0]["logprobs"] for event in events]
    streamed = [token for part in parts if part for token in part["content"]]
    assert [token["token"] for token in streamed] == [token["token"] for token in content]
    assert (
        b"".join(bytes(token["bytes"]) for token in content).decode(errors="replace").strip()
        == (whole["message"]["content"])
    )
    assert all(len(token["top_logprobs"]) == 2 for token in content)


def test_what_a_document_lacks_is_null(server):
    assert ask(server).json()["precis"]["confidence"] is None
    refused = ask(server, precis={"refuse_below": 0.2})
    assert (refused.status, refused.error["code"]) == (400, "confidence_not_known")
    assert ask(server, precis={"refuse_below": 0}).status == 200


def test_passages_are_found_in_the_librarys_thread(server, monkeypatch):
    threads = []
    find = Passages.find

    def watched(*given):
        threads.append(threading.current_thread().name)
        return find(*given)

    monkeypatch.setattr(Passages, "find", watched)
    about = ask(server, content="which lamp?").json()["precis"]
    assert "the lamp is red" in about["passages"][0]["text"]
    assert [name.startswith("precis-library") for name in threads] == [True]
    about = ask(server, content="which lamp?", model="other").json()["precis"]
    assert (about["passages"], about["recall"]) == ([], 0)
    assert len(threads) == 1


# --- clients that leave, or do not read ---------------------------------------------------------------


def test_a_client_that_hangs_up_in_mid_stream_frees_its_row(server):
    tokens = server.service.engine.tokens
    connection, response = open_stream(server, max_tokens=ENDLESS)
    assert server.service.engine.rows == 1
    response.close()
    connection.close()
    until(lambda: server.service.engine.rows == 0)
    until(lambda: server.service.under_way == 0)
    assert server.service.engine.tokens - tokens < ENDLESS


@pytest.mark.parametrize("settings", [{}, {"n": 3}, {"precis": {"from": "document"}}])
def test_a_client_that_hangs_up_while_it_waits_frees_its_row(server, settings):
    tokens = server.service.engine.tokens
    raw = raw_socket(server)
    raw.sendall(raw_request(question(max_tokens=ENDLESS, **settings)))
    until(lambda: server.service.engine.rows == settings.get("n", 1))
    raw.close()
    until(lambda: server.service.engine.rows == 0)
    until(lambda: server.service.under_way == 0)
    assert server.service.engine.tokens - tokens < ENDLESS


def test_a_client_that_never_reads_holds_nobody_up_and_is_let_go(own_library, model):
    with serving(own_library, model, limits(answer_tokens=ENDLESS, send_s=0.3)) as server:
        alone = answer(server)
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        address = urlsplit(server.address)
        raw.connect((address.hostname, address.port))
        greedy = question(max_tokens=ENDLESS, stream=True, logprobs=True, top_logprobs=20)
        raw.sendall(raw_request(greedy))
        until(lambda: server.service.engine.rows == 1)
        assert answer(server) == alone
        until(lambda: server.service.under_way == 0)
        assert server.service.engine.rows == 0
        assert answer(server) == alone
        raw.close()


def test_many_clients_that_vanish_leave_nothing_behind(server):
    draw = random.Random(1)
    for _ in range(30):
        raw = raw_socket(server)
        request = raw_request(question(max_tokens=ENDLESS, stream=draw.random() < 0.5))
        raw.sendall(request[: draw.choice([10, len(request) - 5, len(request)])])
        time.sleep(draw.random() / 50)
        raw.close()
    until(lambda: server.service.engine.rows == 0 and server.service.under_way == 0)
    assert answer(server)["finish_reason"] == "length"


# --- limits -------------------------------------------------------------------------------------------


def test_beyond_so_many_answers_at_once_clients_are_told_when_to_come_again(own_library, model):
    with serving(own_library, model, limits(answer_tokens=ENDLESS, rows=3)) as server:
        streams = [open_stream(server, max_tokens=ENDLESS) for _ in range(3)]
        refused = ask(server)
        assert refused.status == 429
        assert refused.error["type"] == "rate_limit_error"
        assert refused.error["code"] == "queue_full"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        streams[0][1].close()
        streams[0][0].close()
        until(lambda: server.service.engine.rows == 2)
        assert ask(server).status == 200
        assert ask(server, n=2).status == 429
        for connection, response in streams[1:]:
            response.close()
            connection.close()


def test_bodies_that_are_too_large_are_refused(own_library, model):
    with serving(own_library, model, limits(body_bytes=2000)) as server:
        refused = ask(server, content="x" * 3000)
        assert refused.status == 413
        assert refused.error["code"] == "request_too_large"
        assert ask(server, content="the lamp " * 100).status == 200
        connection = connect(server)
        parts = (b"x" * 500 for _ in range(10))  # in chunks, with no length stated
        connection.request(
            "POST", "/v1/completions", parts, {"Content-Type": "application/json"}, encode_chunked=True
        )
        reply = Reply(connection.getresponse())
        assert reply.status == 413
        assert reply.error["code"] == "request_too_large"
        raw = raw_socket(server)  # a length that lies
        raw.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n"
        )
        assert b" 413 " in raw.recv(100)
        raw.close()


def test_a_body_that_does_not_arrive_is_not_waited_for(own_library, model):
    with serving(own_library, model, limits(body_s=0.2)) as server:
        raw = raw_socket(server)
        raw.sendall(raw_request(question())[:-10])
        got = b"".join(iter(lambda: raw.recv(10_000), b"")).decode()
        assert " 408 " in got
        assert "body_timeout" in got
        assert "retry-after" in got.lower()
        raw.close()
        # once it is there, it may take as long as it takes to answer
        assert ask(server, max_tokens=400).status == 200


def test_an_answer_that_takes_too_long_is_given_up(own_library, model):
    with serving(own_library, model, limits(answer_s=0.4, answer_tokens=ENDLESS)) as server:
        refused = ask(server, max_tokens=ENDLESS)
        assert refused.status == 408
        assert refused.error["code"] == "answer_timeout"
        assert "retry-after" in refused.headers
        events, done = ask(server, max_tokens=ENDLESS, stream=True).events()
        assert not done
        assert events[-1]["error"]["code"] == "answer_timeout"
        assert text_of(events[:-1])
        until(lambda: server.service.engine.rows == 0)


def test_prompts_and_documents_that_do_not_fit_are_refused(own_library, model):
    small = limits(prompt_tokens=50, memory_share=1e-7)
    with serving(own_library, model, small) as server:
        refused = ask(server, content="x" * 60)
        assert (refused.status, refused.error["code"]) == (400, "context_length_exceeded")
        assert "50 are taken by this server" in refused.error["message"]
        refused = ask(server, precis={"from": "document"})
        assert (refused.status, refused.error["param"]) == (400, "precis.from")
        assert "memory" in refused.error["message"]
        assert ask(server).status == 200
        refused = ask(server, content="the lamp", precis={"recall": 4})
        assert (refused.status, refused.error["code"]) == (400, "context_length_exceeded")
        assert "that were recalled" in refused.error["message"]
        assert ask(server, content="the lamp", precis={"recall": 0}).status == 200


def test_more_connections_than_it_takes_are_turned_away_and_it_goes_on(own_library, model):
    with serving(own_library, model, limits(connections=20)) as server:
        with contextlib.ExitStack() as stack:
            held = [stack.enter_context(raw_socket(server)) for _ in range(60)]
            until(lambda: len(server.server.server_state.connections) >= 60)
            held[-1].sendall(raw_request(question()))
            assert b" 503 " in held[-1].recv(100)
        until(lambda: not server.server.server_state.connections)
        assert ask(server).status == 200


def test_hundreds_of_connections_at_once_are_all_answered(server):
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(raw_socket(server)) for _ in range(300)]
        body = {"model": "none", "prompt": "x"}
        for raw in held:
            raw.sendall(raw_request(body, "/v1/completions"))
        assert all(b" 404 " in raw.recv(100) for raw in held)
    assert ask(server).status == 200


# --- what is wrong with a request ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"{", {}, "invalid_json"),
        (b"", {}, "invalid_body"),
        (b"[]", {}, "invalid_body"),
        (b'"text"', {}, "invalid_body"),
        (b"null", {}, "invalid_body"),
        (b"{}", {"Content-Type": "text/plain"}, "invalid_body"),
        (b"{}", {"Content-Type": ""}, "invalid_body"),
        (b"{}", {}, "missing_parameter"),
        (b"\xff\xfe", {}, None),
        (b"[" * 200_000, {}, None),
        (b'{"model": "talk", "prompt": "\\ud800"}', {}, "half_character"),
        (b'{"model": "talk\\udfff", "prompt": "x"}', {}, "half_character"),
        (b'{"model": "talk", "prompt": "x", "temperature": NaN}', {}, "invalid_value"),
        (b'{"model": "talk", "prompt": "x", "temperature": 1e999}', {}, "invalid_value"),
        (b'{"model": "talk", "prompt": "x", "seed": ' + b"9" * 5000 + b"}", {}, None),
        (b'{"model": "talk", "prompt": "x", "n": true}', {}, "invalid_value"),
        (b'{"model": "talk", "prompt": "x", "n": "1"}', {}, "invalid_value"),
        (b'{"model": "talk", "prompt": "  "}', {}, "invalid_value"),
        (b'{"model": "talk", "prompt": ["x", ""]}', {}, "invalid_value"),
        (b'{"model": "talk", "prompt": []}', {}, "invalid_value"),
        (b'{"model": "talk", "prompt": [1, 2]}', {}, "invalid_value"),
        (b'{"model": "talk", "prompt": "x", "echo": true}', {}, "unsupported"),
        (b'{"model": "talk", "prompt": "x", "suffix": "y"}', {}, "unsupported"),
        (b'{"model": "talk", "prompt": "x", "best_of": 2}', {}, "unsupported"),
        (b'{"model": "talk", "prompt": "x", "messages": []}', {}, "unknown_parameter"),
    ],
)
def test_malformed_bodies_get_an_answer_in_openais_shape(server, body, headers, code):
    reply = send(server, "POST", "/v1/completions", body, headers.items())
    assert reply.status == 400
    assert reply.error["type"] == "invalid_request_error"
    if code:
        assert reply.error["code"] == code


def test_null_characters_and_every_script_are_only_text(server):
    for content in ("\0", "</s><s><turn>", "🦔" * 50, "\u202e مرحبا", "a\r\nb", "'; DROP TABLE"):
        assert answer(server, content=f"why {content}?")["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/models/../../etc/passwd", 404),
        ("GET", "/v1/models/..%2F..%2Fetc%2Fpasswd", 404),
        ("GET", "/v1/models/%00", 404),
        ("GET", "/v1/models/nobody", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/health", 405),
    ],
)
def test_addresses_and_methods_that_are_not_there(server, method, path, status):
    reply = send(server, method, path)
    assert reply.status == status
    assert reply.error["message"]
    assert ("allow" in reply.headers) == (status == 405)


def test_the_methods_of_an_address_are_told_all(server):
    reply = send(server, "PUT", "/v1/documents")
    assert reply.status == 405
    assert reply.headers["allow"] == "GET, POST"
    assert "GET, POST" in reply.error["message"]
    assert send(server, "OPTIONS", "/v1/documents/x").headers["allow"] == "DELETE, GET"


def test_rubbish_in_place_of_http_is_refused_and_it_goes_on(server):
    for rubbish in (
        b"\0" * 100,
        b"GET\r\n\r\n",
        b"\x16\x03\x01" * 50,
        b"GET / HTTP/1.1\r\n" + b"a" * 200_000,
    ):
        with contextlib.suppress(OSError), raw_socket(server) as raw:
            raw.sendall(rubbish)
            raw.shutdown(socket.SHUT_WR)
            raw.recv(1000)
    assert ask(server).status == 200


# --- faults of the server -----------------------------------------------------------------------------


def test_a_failing_pass_is_a_server_error_without_its_words(server, model, monkeypatch, caplog):
    message = "the words of a question"
    forward, failing = model.forward, threading.Event()

    def fails(*given):
        if failing.is_set():
            raise RuntimeError(message)
        return forward(*given)

    monkeypatch.setattr(model, "forward", fails)
    connection, response = open_stream(server, max_tokens=ENDLESS)
    failing.set()
    rest = response.read().decode()
    connection.close()
    assert "internal_error" in rest.rstrip().split("\n\n")[-1]
    assert "[DONE]" not in rest
    reply = ask(server)
    assert (reply.status, reply.error["code"]) == (500, "internal_error")
    assert message not in rest + reply.body.decode() + caplog.text
    failing.clear()
    assert ask(server).status == 200


def test_a_fault_outside_of_the_model_is_a_server_error_too(server, monkeypatch, caplog):
    message = "the words of a question"

    def fails(*given):
        raise RuntimeError(message)

    monkeypatch.setattr(server.service.library, "open", fails)
    reply = ask(server)
    assert (reply.status, reply.error["type"]) == (500, "server_error")
    assert "/v1/chat/completions failed: RuntimeError" in caplog.text
    assert message not in reply.body.decode() + caplog.text
    monkeypatch.undo()
    assert ask(server).status == 200


def test_a_document_that_is_replaced_while_it_answers_goes_on_as_it_was(library, model, tmp_path):
    path = tmp_path / "talk.precis"
    wordy_artifact(model, TEXT).save(path)
    with serving(tmp_path, model, ROOMY) as server:
        asked = {"max_tokens": 3000, "content": "why so?"}
        before = answer(server, **asked)
        connection, response = open_stream(server, **asked)
        wordy_artifact(model, "something else altogether").save(path)
        after = answer(server, **asked)
        events = [json.loads(part[6:]) for part in response.read().decode().split("\n\n") if "{" in part]
        assert text_of(events) == before["message"]["content"] != after["message"]["content"]
        connection.close()
        path.write_bytes(path.read_bytes()[:-50])
        broken = ask(server)
        assert (broken.status, broken.error["code"]) == (404, "model_broken")
        health = send(server, "GET", "/health").json()
        assert [one["name"] for one in health["broken"]] == ["talk"]
        assert str(tmp_path) not in json.dumps(health)
        assert send(server, "GET", "/v1/models").json()["data"] == []


# --- who may ask --------------------------------------------------------------------------------------

KEY, OTHER_KEY = "a-key-of-sixteen-or-more", "another-key-of-sixteen"


@pytest.fixture(scope="module")
def locked(library, model, tmp_path_factory):
    own = shutil.copytree(library, tmp_path_factory.mktemp("locked") / "library", ignore=UNFINISHED)
    with serving(own, model, ROOMY, keys=frozenset({KEY, OTHER_KEY})) as running:
        yield running


def test_a_key_opens_what_is_locked(locked):
    for key in (KEY, OTHER_KEY):
        headers = {"Authorization": f"Bearer {key}"}
        assert send(locked, "POST", "/v1/chat/completions", question(), headers).status == 200
        assert send(locked, "GET", "/metrics", headers=headers).status == 200
        assert send(locked, "GET", "/health", headers=headers).json()["model"] == "wordy"
    assert locked.client(api_key=KEY).models.list().data


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", f"Bearer {KEY}x", f"Basic {KEY}", KEY, f"Bearer {KEY[:-1]}"],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/models"),
        ("POST", "/v1/documents"),
        ("GET", "/v1/documents"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/nothing"),
    ],
)
def test_without_the_key_nothing_is_told(locked, authorization, method, path):
    headers = {} if authorization is None else {"Authorization": authorization}
    reply = send(locked, method, path, question() if method == "POST" else None, headers)
    assert reply.status == 401
    assert reply.error["type"] == "authentication_error"
    assert reply.headers["www-authenticate"] == "Bearer"
    assert "talk" not in reply.body.decode()


def test_health_without_the_key_tells_no_names(locked):
    health = send(locked, "GET", "/health").json()
    assert health["status"] == "ok"
    assert health["model"] == ""
    assert health["broken"] == []


def test_other_sites_pages_and_names_are_not_let_in(server):
    own = urlsplit(server.address).netloc
    body = question()

    def status(**headers):
        return send(server, "POST", "/v1/chat/completions", body, headers).status

    assert status(Origin=f"http://{own}") == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "http://[bad"):
        assert status(Origin=origin) == 403
    for host in ("localhost", "localhost:8000", "127.0.0.1", "[::1]:8000"):
        assert status(Host=host) == 200
    for host in ("evil.example", "127.0.0.1.evil.example", "192.168.0.1", "[bad"):
        reply = send(server, "POST", "/v1/chat/completions", body, {"Host": host})
        assert (reply.status, reply.error["code"]) == (403, "host_not_allowed")


def test_with_keys_any_host_name_will_do(locked):
    headers = {"Authorization": f"Bearer {KEY}", "Host": "precis.example"}
    assert send(locked, "GET", "/v1/models", headers=headers).status == 200


def test_key_files(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# of the team\n\n{KEY}\n  {OTHER_KEY}  \n")
    assert read_keys(path) == {KEY, OTHER_KEY}
    for content in ("", "# nothing\n", "short\n", "with blanks in the key\n", "ключ-из-шестнадцати-букв\n"):
        path.write_text(content)
        with pytest.raises(SettingsError):
            read_keys(path)
    path.write_bytes(b"\xff\xfe\x00")
    for unreadable in (path, tmp_path / "none", tmp_path):
        with pytest.raises(SettingsError, match="cannot be read"):
            read_keys(unreadable)


def test_beyond_loopback_keys_are_required(library, model):
    for host in ("127.0.0.1", "127.5.5.5", "::1", "[::1]", "localhost"):
        assert is_loopback(host)
        check_exposure(host, frozenset())
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org", "127.0.0.1.example.org"):
        assert not is_loopback(host)
        check_exposure(host, frozenset({KEY}))
        with pytest.raises(SettingsError, match="API keys are required"):
            create_app(ServerSettings(library, host=host), model)


# --- what it tells of itself --------------------------------------------------------------------------


def test_metrics_count_what_happened(own_library, model):
    with serving(own_library, model, ROOMY) as server:
        found = ask(server, n=2).json()
        ask(server, model="nobody")
        send(server, "GET", "/v1/models/talk")
        connection, response = open_stream(server, max_tokens=ENDLESS)
        text = send(server, "GET", "/metrics").body.decode()
        values = dict(re.findall(r"^(precis_\S+(?:\{.*\})?) (\S+)$", text, re.MULTILINE))
        route = 'route="/v1/chat/completions"'
        assert values[f'precis_requests_total{{{route},status="200"}}'] == "1.0"
        assert values[f'precis_requests_total{{{route},status="404"}}'] == "1.0"
        assert values['precis_requests_total{route="/v1/models/{name}",status="200"}'] == "1.0"
        assert float(values['precis_tokens_total{kind="answer"}']) == found["usage"]["completion_tokens"]
        assert float(values['precis_tokens_total{kind="question"}']) == found["usage"]["prompt_tokens"]
        assert values["precis_first_token_seconds_count"] == "1.0"
        assert values["precis_rows_at_work"] == "1.0"
        assert values['precis_documents{state="usable"}'] == "2.0"
        assert float(values["precis_forward_passes_total"]) > 30
        assert "talk" not in text
        response.close()
        connection.close()


def test_the_schema_is_of_this_api(server):
    schema = send(server, "GET", "/openapi.json").json()
    assert {"/v1/chat/completions", "/v1/completions", "/v1/models", "/health"} <= schema["paths"].keys()
    assert "HTTPValidationError" not in json.dumps(schema)
    body = schema["components"]["schemas"]["ChatRequest"]
    assert body["additionalProperties"] is False
    assert {"model", "messages"} == set(body["required"])


# --- its end ------------------------------------------------------------------------------------------


def test_at_its_end_it_finishes_what_runs_and_refuses_the_rest(own_library, model):
    asked = {"max_tokens": 2500, "content": "why so?"}
    with serving(own_library, model, ROOMY) as server, concurrent.futures.ThreadPoolExecutor() as pool:
        alone = answer(server, **asked)
        connection, response = open_stream(server, **asked)
        whole = pool.submit(answer, server, **asked)
        until(lambda: server.service.engine.rows == 2)
        idle = connect(server)
        idle.connect()
        server.end()
        until(lambda: server.service.closing)
        refused = ask(server)
        assert (refused.status, refused.error["code"]) == (503, "shutting_down")
        assert "retry-after" in refused.headers
        assert send(server, "GET", "/health").status == 503
        events = [json.loads(part[6:]) for part in response.read().decode().split("\n\n") if "{" in part]
        assert text_of(events) == alone["message"]["content"]
        assert whole.result() == alone
        connection.close()
        server.thread.join(PATIENCE)
        assert not server.thread.is_alive()
        with pytest.raises(OSError, match="refused"):
            raw_socket(server)
        idle.close()


def test_what_does_not_end_in_time_is_told_so(own_library, model):
    bounded = limits(answer_tokens=ENDLESS, closing_s=0.3)
    with serving(own_library, model, bounded) as server:
        connection, response = open_stream(server, max_tokens=ENDLESS)
        server.end()
        rest = response.read().decode()
        assert "[DONE]" not in rest
        assert json.loads(rest.rstrip().split("\n\n")[-1][6:])["error"]["code"] == "shutting_down"
        connection.close()


# --- the command --------------------------------------------------------------------------------------


def command(*arguments):
    return [sys.executable, "-m", "precis", "serve", *map(str, arguments)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_and_ends_gently_at_a_signal(tmp_path, surroundings, number):
    folder = tmp_path / "library"
    folder.mkdir()
    process = subprocess.Popen(
        command(folder, "--port", 0, "--model", RECALL_MODEL), stdout=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        found = re.search(r"Serving 0 documents of .* at (http://127\.0\.0\.1:\d+) ", line)
        assert found, line
        with raw_socket(type("Server", (), {"address": found[1]})) as raw:
            raw.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b" 200 " in raw.recv(1000)
        process.send_signal(number)
        rest, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        assert rest == ""
    finally:
        process.kill()
        process.wait()


def test_mistakes_in_the_command_get_a_sentence(tmp_path, surroundings, library):
    def fails(*arguments):
        done = subprocess.run(
            command(*arguments), capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        return " ".join(done.stderr.split())

    assert "There is no folder" in fails(tmp_path / "none")
    assert "API keys are required" in fails(library, "--host", "0.0.0.0", "--model", RECALL_MODEL)
    assert "cannot be read" in fails(library, "--api-key-file", tmp_path / "none")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = fails(tmp_path, "--port", port, "--model", RECALL_MODEL)
    assert f"port {port}" in message
    assert "Address already in use" in message
    (tmp_path / ".precis-serve").mkdir()
    (tmp_path / ".precis-serve" / "jobs.sqlite").write_text("no database")
    message = fails(tmp_path, "--port", 0, "--model", RECALL_MODEL)
    assert "jobs.sqlite" in message


def test_the_file_on_disk_is_what_is_served(library, model):
    """A control: the artefact in the library is the one that answers are made from."""
    assert Artifact.open(library / "talk.precis").prefix(model).slots > 20
