"""The page, in a real browser: every state that a visitor meets."""

import contextlib
import json
import re
import shutil
import sys
import time
from urllib.parse import quote

import httpx2
import pytest
import torch

from precis.model.loading import load_model
from precis.serve.jobs import compile_process
from precis.text.recall import REFUSAL
from tests.conftest import RECALL_MODEL
from tests.recall import answer_text, document_text, make_facts, question_text
from tests.serve.running import facts_of, limits, recall_artifact, serving, wordy_artifact, wordy_model

playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
expect = playwright.expect

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = [
    pytest.mark.skipif(
        BROWSER is None,
        reason=f"there is no browser to drive: none of {', '.join(BROWSERS)} is installed",
    ),
    pytest.mark.usefixtures("surroundings"),
]
# A quiet start: nothing that this browser would ask of hosts elsewhere.
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 60_000
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}
LIVELY = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script><b>bold</b>"

# A compile that says what stands in a file, line by line, and goes on as that grows.
PUPPET = """
import json, os, shutil, sys, threading, time
order = json.loads(sys.stdin.readline())
def watch():
    sys.stdin.read()
    os._exit(1)
threading.Thread(target=watch, daemon=True).start()
said = 0
while True:
    lines = open(sys.argv[1]).read().split("\\n")[:-1]
    for line in lines[said:]:
        values = json.loads(line)
        if "publish" in values:
            shutil.copy(values.pop("publish"), order["target"] + ".part")
            os.replace(order["target"] + ".part", order["target"])
        print(json.dumps(values), flush=True)
        if "status" in values:
            sys.exit()
    said = len(lines)
    time.sleep(0.02)
"""


class Puppet:
    """Compiles that do what a file says."""

    def __init__(self, path):
        self.path = path
        path.touch()
        self.command = (sys.executable, "-c", PUPPET, str(path))

    def say(self, **values):
        with self.path.open("a") as file:
            file.write(json.dumps(values) + "\n")


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=list(QUIET))
        yield browser
        browser.close()


@contextlib.contextmanager
def visiting(chromium, address, **settings):
    """A page in a browser of its own, which must not have asked any other host nor failed in its script."""
    context = chromium.new_context(**{"viewport": DESKTOP, **settings})
    context.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    page = context.new_page()
    failures, asked = [], []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("console", lambda said: failures.append(said.text) if "Content Security" in said.text else None)
    page.on("request", lambda request: asked.append(request.url))
    try:
        page.goto(address)
        yield page
        assert failures == []
        assert [url for url in asked if not url.startswith(address.split("#")[0])] == []
    finally:
        context.close()


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return load_model(str(RECALL_MODEL))


@pytest.fixture(scope="module")
def compiled(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("compiled") / "facts-1.precis"
    recall_artifact(model, 1).save(path)
    return path


@pytest.fixture
def puppet(tmp_path, monkeypatch):
    made = Puppet(tmp_path / "said")
    monkeypatch.setattr(compile_process, "COMPILE_COMMAND", made.command)
    return made


@pytest.fixture
def asked(library, model, compiled, chromium):
    """A page that shows a document which can be asked."""
    shutil.copy(compiled, library)
    with serving(library, model) as server, visiting(chromium, server.address) as page:
        yield page


def choose(page, name, content):
    page.set_input_files("#file", {"name": name, "mimeType": "text/plain", "buffer": content})


def ask(page, question):
    page.get_by_label("Your question").fill(question)
    page.get_by_role("button", name="Ask", exact=True).click()


def last_turn(page):
    return page.get_by_role("list", name="Conversation").locator("> li").last


def test_a_document_is_uploaded_compiled_and_asked(library, model, chromium):
    """All of it, with a real compile."""
    facts = make_facts(20, seed=5)
    questions = "\n".join(question_text(fact, phrasing) for fact in facts for phrasing in range(6))
    with serving(library, model) as server, visiting(chromium, server.address) as page:
        expect(page.get_by_role("heading", name="How it goes")).to_be_visible()
        page.get_by_text("Options").click()
        page.get_by_label("Document tokens for every position").fill("5")
        page.get_by_label("Questions of your own").fill(questions)
        choose(page, "facts.md", document_text(facts).encode())
        expect(page.get_by_role("heading", name="facts.md")).to_be_visible()
        expect(page.get_by_role("heading", name="How it goes")).to_be_hidden()
        expect(page.get_by_text("Compiled in")).to_be_visible()
        page.get_by_text("Compiled in").click()
        expect(page.get_by_role("img", name="Recovery by training step")).to_be_visible()
        expect(page.get_by_text("the whole document", exact=True)).to_be_visible()
        expect(page.get_by_text("A measure of the optimisation, not of right answers")).to_be_visible()
        ask(page, question_text(facts[0], 0))
        turn = last_turn(page)
        expect(turn.locator(".answer-text")).to_have_text(answer_text(facts[0]))
        expect(turn.get_by_text("Confidence:")).to_contain_text("%")


def test_a_compile_is_shown_as_it_goes(library, model, compiled, puppet, chromium):
    with serving(library, model) as server, visiting(chromium, server.address) as page:
        choose(page, "facts-1.md", b"The harbour is red.")
        expect(page.get_by_role("heading", name="Compiling")).to_be_visible()
        expect(page.get_by_label("Your question")).to_be_hidden()
        expect(page.get_by_text("You can ask it now.")).to_be_hidden()

        puppet.say(stage="asking", done=3, total=12, seconds_left=200)
        expect(page.get_by_text("3 of 12")).to_be_visible()
        expect(page.get_by_text("about 3 min left")).to_be_visible()
        expect(page.locator("[aria-current=step]")).to_have_text("Asking")
        puppet.say(stage="weighing", done=0, total=1, curve=[[0, 0.8]])
        expect(page.get_by_text("Weighing.")).to_be_visible()  # a name that the page does not know
        expect(page.get_by_text("a first estimate on few questions")).to_be_visible()
        expect(page.get_by_role("img", name="Recovery by training step")).to_be_hidden()

        puppet.say(publish=str(compiled), stage="training", done=10, total=48, curve=[[0, 0.4], [10, 0.7]])
        expect(page.get_by_text("You can ask it now.")).to_be_visible()
        expect(page.get_by_text("Recovery 0.70")).to_be_visible()
        expect(page.get_by_label("Your question")).to_be_visible()

        puppet.say(stage="training", done=20, total=48, curve=[[0, 0.4], [10, 0.7], [20, 0.9]])
        expect(page.get_by_text("Recovery 0.90")).to_be_visible()
        puppet.say(status="ready")
        expect(page.get_by_text("Compiled in")).to_contain_text("0.90")
        expect(page.get_by_role("button", name="Cancel")).to_be_hidden()


def test_a_reload_in_mid_compile_shows_it_again_and_goes_on(library, model, compiled, puppet, chromium):
    with serving(library, model) as server, visiting(chromium, server.address) as page:
        choose(page, "one.md", b"The harbour is red.")
        expect(page.get_by_role("heading", name="one.md")).to_be_visible()
        choose(page, "two.md", b"The lamp is red.")
        expect(page.get_by_role("heading", name="two.md")).to_be_visible()
        expect(page.get_by_role("heading", name="Waiting")).to_be_visible()
        page.get_by_role("link", name="one").click()
        puppet.say(publish=str(compiled), stage="training", done=10, total=48, curve=[[0, 0.4]])
        expect(page.get_by_text("10 of 48")).to_be_visible()
        expect(page.get_by_role("img", name="Recovery by")).to_be_visible()
        page.reload()
        expect(page.get_by_role("heading", name="one.md")).to_be_visible()
        expect(page.get_by_text("10 of 48")).to_be_visible()
        expect(page.get_by_text("You can ask it now.")).to_be_visible()
        expect(page.get_by_text("Recovery 0.40")).to_be_visible()
        puppet.say(done=30)
        expect(page.get_by_text("30 of 48")).to_be_visible()
        puppet.say(status="ready")
        expect(page.get_by_text("Compiled in")).to_be_visible()
        # and then the next one is followed
        expect(page.get_by_role("link", name="two")).to_contain_text("Ready")


def test_a_compile_is_cancelled_and_its_document_removed(library, model, puppet, chromium):
    with serving(library, model) as server, visiting(chromium, server.address) as page:
        choose(page, "harbour.md", b"The harbour is red.")
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("heading", name="The compile was cancelled")).to_be_visible()
        page.get_by_role("button", name="Remove").click()
        page.get_by_role("button", name="Keep it").click()
        expect(page.get_by_role("heading", name="harbour.md")).to_be_visible()
        page.get_by_role("button", name="Remove").click()
        page.get_by_role("button", name="Remove it").click()
        expect(page.get_by_role("heading", name="How it goes")).to_be_visible()


def test_a_failed_compile_says_why(library, model, puppet, chromium):
    puppet.say(status="failed", error=f"There is no room. {LIVELY}")
    with serving(library, model) as server, visiting(chromium, server.address) as page:
        choose(page, "harbour.md", b"The harbour is red.")
        expect(page.get_by_role("heading", name="The compile failed")).to_be_visible()
        expect(page.get_by_text("There is no room.")).to_contain_text(LIVELY)
        expect(page.get_by_text("There is nothing to ask")).to_be_visible()


DAMAGED = {
    "report.pdf": b"%PDF-1.7\nnothing of a PDF follows",
    "empty.md": b"",
    "picture.png": b"\x89PNG",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_that_cannot_be_read_is_refused_in_words(name, library, model, puppet, chromium):
    with serving(library, model) as server, visiting(chromium, server.address) as page:
        choose(page, name, DAMAGED[name])
        refused = page.get_by_role("list", name="Files that were not taken").get_by_role("alert")
        expect(refused).to_contain_text(f"{name} was not taken.")
        assert len(refused.inner_text()) > len(f"{name} was not taken. Dismiss") + 10  # it says why
        expect(page.get_by_role("heading", name="How it goes")).to_be_visible()
        refused.get_by_role("button", name="Dismiss").click()
        expect(refused).to_have_count(0)
        # and the next one is taken
        choose(page, "good.md", b"The harbour is red.")
        expect(page.get_by_role("heading", name="good.md")).to_be_visible()


def test_a_dropped_file_is_taken(library, model, puppet, chromium):
    with serving(library, model) as server, visiting(chromium, server.address) as page:
        carried = page.evaluate_handle(
            "() => { const carried = new DataTransfer();"
            "carried.items.add(new File(['The lamp is red.'], 'lamp.md')); return carried; }"
        )
        page.dispatch_event("body", "dragover", {"dataTransfer": carried})
        expect(page.locator("body.dropping")).to_have_count(1)
        page.dispatch_event("body", "drop", {"dataTransfer": carried})
        expect(page.get_by_role("heading", name="lamp.md")).to_be_visible()
        expect(page.locator("body.dropping")).to_have_count(0)


def test_an_answer_tells_what_it_took_and_what_it_was_made_from(asked):
    fact = facts_of(1)[0]
    ask(asked, question_text(fact, 0))
    turn = last_turn(asked)
    expect(turn.locator(".answer-text")).to_have_text(answer_text(fact))
    for words in ("first word after", "all after", "positions before the question", "of memory for them"):
        expect(turn.get_by_text(words)).to_be_visible()
    expect(turn.get_by_text("Confidence:")).to_be_visible()
    expect(turn.get_by_text("Made from this passage of the document, page 1")).to_be_visible()
    sentence = f"The {fact.relation} of {fact.name} is {fact.value}."
    expect(turn.locator("blockquote", has_text=sentence).first).to_be_visible()
    expect(turn.locator("figcaption").first).to_have_text("facts-1.md, page 1")


def test_an_answer_that_is_too_unsure_is_refused_and_can_be_looked_at(asked):
    fact = facts_of(1)[0]
    sent = []
    asked.on("request", lambda request: sent.append(request.post_data_json) if request.post_data else None)
    asked.get_by_label("Where it is less than").fill("100")
    ask(asked, question_text(fact, 0))
    turn = last_turn(asked)
    expect(turn.locator(".answer > .answer-text")).to_have_text(REFUSAL)
    expect(turn.get_by_text(answer_text(fact), exact=True)).to_be_hidden()
    turn.get_by_text("The model would have said").click()
    expect(turn.get_by_text(answer_text(fact), exact=True)).to_be_visible()
    expect(turn.get_by_text("It was less than 100 % sure of it.")).to_be_visible()
    expect(turn.get_by_text("Made from this passage")).to_be_visible()
    # it is remembered, until it is taken back; nothing is sent where nothing is set
    asked.reload()
    expect(asked.get_by_label("Where it is less than")).to_have_value("100")
    asked.get_by_label("Where it is less than").fill("")
    ask(asked, question_text(fact, 0))
    expect(last_turn(asked).locator(".answer-text")).to_have_text(answer_text(fact))
    assert [one["precis"] for one in sent] == [
        {"from": "soft_prompt", "refuse_below": 1},
        {"from": "soft_prompt"},
    ]
    assert asked.evaluate("Object.values(sessionStorage)") == []


def test_where_the_confidence_is_not_known_nothing_can_be_refused(library, wordy, chromium):
    wordy_artifact(wordy, "the lamp is red. " * 4).save(library / "talk.precis")
    brief = limits(default_answer_tokens=5)
    with serving(library, wordy, brief) as server, visiting(chromium, server.address) as page:
        page.evaluate("sessionStorage.setItem('precis-refuse-below', 50)")
        ask(page, "which lamp?")
        expect(last_turn(page).get_by_text("not calibrated")).to_be_visible()
        expect(page.get_by_label("Where it is less than")).to_be_hidden()


def test_a_question_without_a_word_of_the_document_is_told(asked):
    ask(asked, "Zzyzx?")
    expect(
        last_turn(asked).get_by_text("No passage of the document has a word of this question")
    ).to_be_visible()


def test_the_whole_document_is_set_beside_it(asked):
    fact = facts_of(1)[0]
    ask(asked, question_text(fact, 0))
    turn = last_turn(asked)
    turn.get_by_role("button", name="Compare with reading the whole document").click()
    expect(turn.get_by_text("times fewer positions")).to_be_visible()
    cells = {
        row.locator("th").inner_text(): row.locator("td").all_inner_texts()
        for row in turn.locator("tbody tr").all()
    }
    assert [text.strip() for text in cells["Answer"]] == [answer_text(fact)] * 2
    assert all(text.endswith(" s") for name in ("First word", "All of it") for text in cells[name])
    short, whole = (int(text.replace(",", "")) for text in cells["Positions before the question"])
    assert 0 < short < whole
    assert all("B" in text for text in cells["Memory for them"])


def test_what_was_said_before_is_sent_again(asked):
    first, second = facts_of(1)[:2]
    sent = []
    asked.on("request", lambda request: sent.append(request.post_data_json) if request.post_data else None)
    for fact in (first, second):
        ask(asked, question_text(fact, 0))
        expect(last_turn(asked).get_by_text("Confidence:")).to_be_visible()
    assert [message["role"] for message in sent[1]["messages"]] == ["user", "assistant", "user"]
    assert sent[1]["messages"][1]["content"].strip() == answer_text(first)
    asked.get_by_role("button", name="New conversation").click()
    ask(asked, question_text(second, 0))
    expect(last_turn(asked).locator(".answer-text")).to_have_text(answer_text(second))
    assert len(sent[2]["messages"]) == 1


def test_the_keyboard_alone_can_ask(asked):
    fact = facts_of(1)[0]
    expect(asked.get_by_label("Your question")).to_be_visible()
    passed = []
    for _ in range(30):
        asked.keyboard.press("Tab")
        focused = asked.evaluate("document.activeElement.id || document.activeElement.textContent")
        passed.append(focused)
        if focused == "question":
            break
        outline = asked.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", focused  # it is to be seen where one is
    assert passed[0] == "Skip to the document"
    assert passed[-1] == "question"
    asked.keyboard.type(question_text(fact, 0))
    asked.keyboard.press("Enter")
    expect(last_turn(asked).locator(".answer-text")).to_have_text(answer_text(fact))
    assert asked.evaluate("document.activeElement.id") == "question"
    asked.keyboard.type("one")
    asked.keyboard.press("Shift+Enter")
    asked.keyboard.type("two")
    expect(asked.get_by_label("Your question")).to_have_value("one\ntwo")


@pytest.fixture(scope="module")
def wordy():
    torch.set_num_threads(1)
    return wordy_model(window=65_536)


def test_an_answer_comes_bit_by_bit_and_escape_stops_it(library, wordy, chromium):
    wordy_artifact(wordy, "the lamp is red. " * 4).save(library / "talk.precis")
    generous = limits(answer_tokens=50_000, default_answer_tokens=50_000, memory_share=1 / 4)
    with serving(library, wordy, generous) as server, visiting(chromium, server.address) as page:
        ask(page, "why?")
        answer = last_turn(page).locator(".answer")
        expect(answer).to_have_attribute("aria-busy", "true")
        expect(answer.locator(".answer-text")).to_have_text(re.compile(".{20}", re.DOTALL))
        expect(page.get_by_role("button", name="Stop")).to_be_visible()
        page.keyboard.press("Escape")
        expect(answer).to_contain_text("Stopped.")
        assert answer.get_attribute("aria-busy") is None
        assert len(answer.locator(".answer-text").inner_text()) > 20
        expect(page.get_by_role("button", name="Stop")).to_be_hidden()
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while server.service.engine.rows:  # its place is free again
            assert time.monotonic() < deadline
            time.sleep(0.01)


def streamed(text, withheld=None):
    chunks = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}]},
        {
            "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
            "precis": {
                "confidence": 0.83,
                "withheld": withheld,
                "recall": 1,
                "passages": [{"text": text, "source": text, "page": 2, "start": 7, "end": 9, "score": 1.0}],
                "answers": [],
                "from": "soft_prompt",
                "positions": 120,
                "prefix_bytes": 2_600_000,
                "first_token_s": 0.05,
                "seconds": 0.4,
            },
        },
    ]
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def test_what_a_model_writes_stays_text(asked):
    asked.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(content_type="text/event-stream", body=streamed(LIVELY)),
    )
    ask(asked, LIVELY)
    turn = last_turn(asked)
    expect(turn.locator(".answer-text")).to_have_text(LIVELY)
    expect(turn.locator(".question")).to_have_text(LIVELY)
    expect(turn.get_by_text("Confidence:")).to_contain_text("good, 83 %")
    expect(turn.get_by_text("Made from this passage of the document, page 2")).to_be_visible()
    expect(turn.locator("blockquote")).to_have_text(LIVELY)
    expect(turn.locator("figcaption")).to_have_text(f"{LIVELY}, page 2")
    assert turn.locator("img, script, answer b").count() == 0
    assert "run" not in asked.title()


def test_a_documents_name_and_notes_stay_text(library, model, puppet, chromium):
    puppet.say(note=LIVELY, stage="training", done=1, total=2)
    with serving(library, model) as server, visiting(chromium, server.address) as page:
        choose(page, "<b>bold<b>.md", b"The harbour is red.")
        expect(page.get_by_role("heading", name="<b>bold<b>.md")).to_be_visible()
        expect(page.get_by_text(LIVELY)).to_be_visible()
        assert page.locator("article h2 b, article .notes b, article .notes img").count() == 0


def test_a_full_queue_is_told_and_the_question_can_be_asked_again(asked):
    fact = facts_of(1)[0]
    body = {"error": {"message": "Busy.", "type": "rate_limit_error", "param": None, "code": "queue_full"}}
    asked.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(status=429, headers={"Retry-After": "7"}, json=body),
        times=1,
    )
    ask(asked, question_text(fact, 0))
    expect(last_turn(asked).get_by_role("alert")).to_contain_text("Try again in 7 s.")
    last_turn(asked).get_by_role("button", name="Ask again").click()
    expect(last_turn(asked).locator(".answer-text")).to_have_text(answer_text(fact))
    expect(asked.get_by_role("list", name="Conversation").locator("> li")).to_have_count(1)


def test_a_server_that_is_gone_is_told_and_found_again(asked):
    fact = facts_of(1)[0]
    expect(asked.get_by_label("Your question")).to_be_visible()
    asked.route("**/*", lambda route: route.abort())
    ask(asked, question_text(fact, 0))
    expect(last_turn(asked).get_by_role("alert")).to_contain_text("The server cannot be reached.")
    expect(asked.locator("#gone")).to_contain_text("This page tries again by itself.")
    asked.unroute("**/*")
    expect(asked.locator("#gone")).to_be_hidden()
    last_turn(asked).get_by_role("button", name="Ask again").click()
    expect(last_turn(asked).locator(".answer-text")).to_have_text(answer_text(fact))


def test_a_text_that_was_not_kept_is_told(library, model, chromium):
    recall_artifact(model, 2, keep_text=False).save(library / "facts-2.precis")
    with serving(library, model) as server, visiting(chromium, server.address) as page:
        fact = facts_of(2)[0]
        ask(page, question_text(fact, 0))
        expect(last_turn(page).get_by_text("Confidence:")).to_be_visible()
        expect(last_turn(page).get_by_text("The document's text is not kept with it")).to_be_visible()
        expect(last_turn(page).get_by_role("button")).to_have_count(0)


KEY = "a-key-of-some-length"


def test_a_key_is_asked_for_and_kept_in_the_tab_alone(library, model, compiled, chromium):
    shutil.copy(compiled, library)
    with (
        serving(library, model, keys=frozenset({KEY})) as server,
        visiting(chromium, server.address) as page,
    ):
        field = page.get_by_label("API key")
        expect(field).to_be_visible()
        field.fill("no-such-key-at-all")
        field.press("Enter")
        expect(page.get_by_role("alert").filter(has_text="not known")).to_be_visible()
        field.fill(KEY)
        field.press("Enter")
        expect(field).to_be_hidden()
        ask(page, question_text(facts_of(1)[0], 0))
        expect(last_turn(page).locator(".answer-text")).to_have_text(answer_text(facts_of(1)[0]))
        kept = page.evaluate("[Object.values(sessionStorage), Object.values(localStorage), document.cookie]")
        assert kept == [[KEY], [], ""]
        page.reload()
        expect(page.get_by_label("Your question")).to_be_visible()
        page.get_by_role("button", name="Forget it").click()
        expect(field).to_be_visible()
        assert page.evaluate("Object.values(sessionStorage)") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(scheme, library, model, compiled, puppet, chromium):
    wide = {"viewport": PHONE, "color_scheme": scheme, "is_mobile": True, "has_touch": True}
    with serving(library, model) as server, visiting(chromium, server.address, **wide) as page:

        def narrow():
            return page.evaluate("document.scrollingElement.scrollWidth") <= PHONE["width"]

        assert narrow()
        choose(page, f"{'long' * 20}.md", b"The harbour is red.")
        choose(page, f"{'broken' * 12}.pdf", b"%PDF-")
        expect(page.get_by_role("alert").filter(has_text="was not taken")).to_be_visible()
        puppet.say(
            publish=str(compiled),
            stage="training",
            done=10,
            total=48,
            curve=[[0, 0.4], [10, 0.7]],
            note="unbroken" * 30,
        )
        expect(page.get_by_text("You can ask it now.")).to_be_visible()
        page.set_viewport_size(DESKTOP)
        expect(page.get_by_role("img", name="Recovery by")).to_have_attribute("width", re.compile("[5-9]..$"))
        page.set_viewport_size(PHONE)
        expect(page.get_by_role("img", name="Recovery by")).to_have_attribute("width", re.compile("[123]..$"))
        assert narrow()
        ask(page, f"{question_text(facts_of(1)[0], 0)} {'word' * 60}")
        expect(last_turn(page).get_by_text("Made from")).to_be_visible()
        last_turn(page).get_by_role("button", name="Compare with").click()
        expect(last_turn(page).locator(".difference")).to_be_visible()
        assert narrow()


def contrast(first, second):
    def luminance(colour):
        parts = [part / 255 for part in colour]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted((luminance(first), luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


PAIRS = [
    ("ink", "paper"),
    ("soft", "paper"),
    ("soft", "card"),
    ("accent", "card"),
    ("accent", "tint"),
    ("on-accent", "accent"),
    ("good", "good-tint"),
    ("ink", "good-tint"),
    ("bad", "paper"),
    ("ink", "bad-tint"),
    ("soft", "tint"),
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(scheme, library, model, chromium):
    """WCAG's contrast of 4.5 for text of ordinary size."""
    with serving(library, model) as server, visiting(chromium, server.address, color_scheme=scheme) as page:
        styles = "getComputedStyle(document.documentElement)"

        def colour(name):
            value = page.evaluate(f"{styles}.getPropertyValue('--{name}').trim()")
            return [int(value[place : place + 2], 16) for place in (1, 3, 5)]

        low = {pair: contrast(*map(colour, pair)) for pair in PAIRS}
        assert {pair: value for pair, value in low.items() if value < 4.5} == {}


def test_the_page_may_reach_nothing_but_its_server(library, model):
    with serving(library, model) as server, httpx2.Client(base_url=server.address) as client:
        index = client.get("/")
        assert index.headers["content-type"] == "text/html; charset=utf-8"
        policy = dict(part.split(" ", 1) for part in index.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert {policy[name] for name in ("script-src", "style-src", "connect-src", "img-src")} == {"'self'"}
        assert policy["frame-ancestors"] == "'none'"
        for name, kind in {
            "style.css": "text/css",
            "script.js": "text/javascript",
            "icon.svg": "image/svg+xml",
        }.items():
            got = client.get(f"/page/{name}")
            assert got.headers["content-type"].startswith(kind)
            assert got.headers["x-content-type-options"] == "nosniff"
            assert got.headers["cache-control"] == "no-cache"
            again = client.get(f"/page/{name}", headers={"If-None-Match": got.headers["etag"]})
            assert again.status_code == 304
        assert client.head("/").status_code == 200
        for name in ("nothing.js", quote("../app.py", safe=""), "../app.py", ""):
            assert client.get(f"/page/{name}").json()["error"]["code"] == "not_found"
