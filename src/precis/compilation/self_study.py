"""z, the questions that σ is taught: the user's own, and self-study.

In self-study the model writes questions about every sentence of the document. A small model writes more
nonsense than sense, so that writing is cheap and choosing is what counts. Two things help it to write:
worked turns (passage, question) before the passage, and a forced beginning of the question, which is also
what makes the questions differ. Three things choose (round-trip consistency: Alberti et al., 2019, arXiv
1906.05416), from the cheapest on: the question must be made of the document's words and lead back to its
sentence (`is_about`); the model must answer it from the sentence alone, in the sentence's words
(`is_supported`); and so must the teacher, who has the whole document (`is_confirmed`).
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from precis.model.chat import Turn
from precis.model.decoding import Generation, Request, Sampling
from precis.model.language_model import LanguageModel
from precis.model.prefix import Prefix
from precis.storage import WorkFolder, key_of
from precis.text.language import Language
from precis.text.passages import Passages
from precis.text.questions import Question
from precis.text.spans import spread_out

CANDIDATES_A_ROOT = 50
FEWEST, MOST = 64, 100_000
LONGEST_QUESTION = 24
LONGEST_BARE_ANSWER = 32
# The forced beginnings make the questions differ; what follows them is nearly certain to make sense.
TEMPERATURE = 0.3
# Questions about one sentence in one round through the document, and how many of them begin with its own
# words: three times as many of those are worth teaching.
QUESTIONS_PER_ROUND, OWN_WORDS = 8, 5
# A sentence that has so many questions worth teaching is not asked about again.
WANTED = 4
# Sentences that are asked about together.
SENTENCES_AT_ONCE = 48
# Even a compile that is out of time keeps so many questions, or there is nothing to learn from.
ENOUGH = 8
# Share of a text's words that must stand where they should.
MOST_WORDS = 0.7
# The same of what the teacher says: "The document states that" is not to be learnt.
TEACHER_WORDS = 0.85

BEGINNINGS = (
    "Who",
    "What",
    "When",
    "Where",
    "Why",
    "How",
    "Which",
    "How many",
    "What is the",
    "Who is",
    "What did",
    "When does",
    "Where is",
    "How much",
    "What kind of",
    "What does",
    "How long",
    "What was",
    "Where does",
    "What are",
    "In what",
    "Whose",
    "When was",
    "What is",
    "On which",
    "How does",
    "At what",
    "What happens",
    "From where",
    "By whom",
)

# Before a word, and before a name, of the sentence itself.
BEFORE_A_WORD = ("What is the", "Which", "How many", "What")
BEFORE_A_NAME = ("What is", "Who is", "Where is", "What does")
_NAME = re.compile(r"(?<=[\w,;:(] )[A-Z]\w+(?: [A-Z]\w+)*")

_WORKED = (
    Turn(
        "The Sable Bridge was opened in 1874 by the engineer Ada Quill. It replaced a ferry that had "
        "carried 300 people a day. Because its cables are coated in zinc, they do not rust.",
        "Who opened the Sable Bridge in 1874?",
    ),
    Turn(
        "Kestrels hover above open fields while they look for voles. They nest in holes of old trees, "
        "and lay four to six eggs in April.",
        "Where do kestrels make their nests?",
    ),
)
_REQUEST = "Write one question that this text answers.\n\nText: "


@dataclass
class Study:
    """What self-study gave.

    Parameters
    ----------
    questions
        Those that are worth teaching.
    written
        How many were written.
    sentences
        How many sentences were asked about.
    reused
        Whether an earlier run had written some of them.
    """

    questions: list[Question] = field(default_factory=list)
    written: int = 0
    sentences: int = 0
    reused: bool = field(default=False, compare=False)

    @property
    def dropped(self) -> int:
        """How many were not worth teaching."""
        return max(0, self.written - len(self.questions))

    @property
    def covered(self) -> int:
        """How many sentences have a question."""
        return len({question.place for question in self.questions if question.place is not None})


def automatic_count(document_tokens: int) -> int:
    """How many questions are written about a document: 50 times the root of its tokens, within bounds.

    That is about twenty a sentence for a few pages, of which three are worth teaching. The root keeps the
    time of a short document to minutes on two cores, and that of a book bearable.
    """
    return min(MOST, max(FEWEST, round(CANDIDATES_A_ROOT * math.sqrt(document_tokens))))


def self_study(
    model: LanguageModel,
    passages: Passages,
    count: int,
    seed: int,
    work: WorkFolder,
    *,
    out_of_time: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] = lambda _: None,
) -> Study:
    """Let the model write about `count` questions, about every sentence, and choose.

    It goes round the document several times, each time with a few questions about every sentence that has not
    enough of them yet, and visits the sentences in an order that leaves no part out for long: a study that is
    stopped early has asked about all parts. What is finished is kept in the work folder.

    Parameters
    ----------
    out_of_time
        Asked after every batch of sentences; where it says yes, the study ends with what it has.
    progress
        Called with the number of questions just written.
    """
    writer = _Writer(model, passages, work)
    study = Study(sentences=len(passages.sentences))
    turn = 0
    while study.written < count:
        order = [place for place in spread_out(len(passages.sentences)) if writer.wants(place, study)]
        # at the end a part of a round: as much of the document as there are questions left for
        order = order[: max(1, (count - study.written) // QUESTIONS_PER_ROUND)]
        if not order:
            break
        for start in range(0, len(order), SENTENCES_AT_ONCE):
            batch = order[start : start + SENTENCES_AT_ONCE]
            writer.write(batch, turn, seed, study)
            progress(QUESTIONS_PER_ROUND * len(batch))
            if out_of_time() and len(study.questions) >= ENOUGH:
                return _gathered(study)
        turn += 1
    return _gathered(study)


def _gathered(study: Study) -> Study:
    study.questions = without_repeats(study.questions)
    return study


class _Writer:
    """Lets the model write questions about sentences, those about several together, and chooses."""

    def __init__(self, model: LanguageModel, passages: Passages, work: WorkFolder) -> None:
        self.model = model
        self.passages = passages
        self.work = work
        self._stops = model.chat.tokens_with("?\n")
        self._judge = Judge(passages)
        self._worked: Prefix | None = None
        self._nothing: Prefix | None = None

    def write(self, batch: Sequence[int], turn: int, seed: int, study: Study) -> None:
        """Write a round of questions about some sentences, and add what is good to the study."""
        key = key_of(batch, turn, seed, BEGINNINGS, LONGEST_QUESTION, LONGEST_BARE_ANSWER, TEMPERATURE)
        name = f"good-questions-{turn:03d}-{batch[0]:06d}-{key}"
        kept = self.work.read_json(name)
        if kept is None:
            kept = self._chosen(batch, turn, seed)
            self.work.write_json(name, kept)
        else:
            study.reused = True
        sentences = self.passages.sentences
        study.written += QUESTIONS_PER_ROUND * len(batch)
        study.questions += [Question(text, place=sentences[place].start) for place, text in kept]

    def _chosen(self, batch: Sequence[int], turn: int, seed: int) -> list[tuple[int, str]]:
        about = [
            (place, text)
            for place, text in self._texts(batch, turn, seed)
            if self._judge.is_about(text, place)
        ]
        good: list[tuple[int, str]] = []
        for (place, text), said in zip(about, self._bare_answers(about), strict=True):
            answer = self.model.chat.decode(said.tokens)
            if said.finished and self._judge.is_supported(answer, text, place):
                good.append((place, text))
        return good

    def _texts(self, batch: Sequence[int], turn: int, seed: int) -> list[tuple[int, str]]:
        """Let the model write; what is no question, or was just asked, is left out."""
        chat = self.model.chat
        begun = [(place, beginning) for place in batch for beginning in self._beginnings(place, turn, seed)]
        requests = []
        prefixes: dict[int, Prefix] = {}
        for number, (place, beginning) in enumerate(begun):
            if place not in prefixes:
                before, reading = chat.conversation(_WORKED, _REQUEST + self.passages.in_context(place))
                prefixes[place] = self.model.prefill(reading, after=self._worked_turns(before))
            sampling = Sampling(
                TEMPERATURE, seed=(seed * 7919 + turn) * 100_003 + place * 101 + number, stops=self._stops
            )
            requests.append(Request(prefixes[place], chat.encode(beginning), LONGEST_QUESTION, sampling))
        texts: dict[tuple[int, str], str] = {}
        for (place, beginning), said in zip(begun, self.model.generate(requests), strict=True):
            text = cleaned(chat.decode([*chat.encode(beginning), *said.tokens]))
            if text is not None:
                texts.setdefault((place, text.lower()), text)
        return [(place, text) for (place, _), text in texts.items()]

    def _beginnings(self, place: int, turn: int, seed: int) -> list[str]:
        """Draw forced beginnings for a sentence, most with its own words; no two rounds get the same."""
        draw = random.Random(seed * 100_003 + place)
        language, sentence = self.passages.language, self.passages.sentence(place)
        words = [word for word in re.findall(r"\w+", sentence) if word.islower() and len(word) > 3]
        words = [
            word for word in dict.fromkeys(words) if not language.common.issuperset(language.words(word))
        ]
        names = list(dict.fromkeys(_NAME.findall(sentence)))
        own = [f"{before} {word}" for word in words for before in BEFORE_A_WORD]
        own += [f"{before} {name}" for name in names for before in BEFORE_A_NAME]
        general = list(BEGINNINGS)
        draw.shuffle(own)
        draw.shuffle(general)
        first = own[turn * OWN_WORDS : (turn + 1) * OWN_WORDS]
        rest = QUESTIONS_PER_ROUND - len(first)
        return [
            *first,
            *(general[(turn * QUESTIONS_PER_ROUND + number) % len(general)] for number in range(rest)),
        ]

    def wants(self, place: int, study: Study) -> bool:
        """Whether a sentence has not enough questions yet."""
        start = self.passages.sentences[place].start
        return sum(question.place == start for question in study.questions) < WANTED

    def _bare_answers(self, asked: Sequence[tuple[int, str]]) -> list[Generation]:
        """Let the model answer from the sentence alone, without the document."""
        chat = self.model.chat
        if self._nothing is None:
            self._nothing = self.model.prefill(chat.document_prompt(""))
        prompts = [chat.question_prompt(text, self.passages.in_context(place)) for place, text in asked]
        return self.model.given(self._nothing).generate(prompts, max_tokens=LONGEST_BARE_ANSWER)

    def _worked_turns(self, tokens: Sequence[int]) -> Prefix:
        """Let the model read what stands before every passage, once."""
        if self._worked is None:
            self._worked = self.model.prefill(tokens)
        return self._worked


class Judge:
    """Tells by their words which questions and answers belong to a sentence of a document.

    Parameters
    ----------
    passages
        The document's.
    """

    def __init__(self, passages: Passages) -> None:
        self.passages = passages
        self.language: Language = passages.language
        self._passage_of = {
            sentence: number
            for number, (first, last) in enumerate(passages.spans)
            for sentence in range(first, last + 1)
        }
        self._common = self.language.common | set(self.language.words(" ".join(BEGINNINGS)))

    def is_about(self, question: str, place: int) -> bool:
        """Whether a question is made of words of the sentence and its context, and leads back to it."""
        asked = self._content(question)
        heading = self.passages.sentences[place].heading
        context = self._content(self.passages.in_context(place)) | self._content(heading)
        if not asked & self._content(self.passages.sentence(place)):
            return False
        if len(asked & context) < MOST_WORDS * len(asked):
            return False
        return self.passages.ranked(question)[0] == self._passage_of[place]

    def is_supported(self, answer: str, question: str, place: int, share: float = MOST_WORDS) -> bool:
        """Whether an answer says something that the question does not, in words of the sentence."""
        said, asked = self._content(answer), self._content(question)
        context = self._content(self.passages.in_context(place))
        new = said - asked
        own = self._content(self.passages.sentence(place))
        return (
            bool(new & own)
            and len(said & (context | asked)) >= share * len(said)
            and len(new & context) >= share * len(new)
        )

    def is_confirmed(self, question: Question, answer: str) -> bool:
        """Whether the teacher's answer to a question stands in its sentence, too."""
        if question.place is None:
            return True
        place = self.passages.sentence_at(question.place)
        return self.is_supported(answer, question.text, place, TEACHER_WORDS)

    def _content(self, text: str) -> set[str]:
        return set(self.language.words(text)) - self._common


def without_repeats(questions: Iterable[Question]) -> list[Question]:
    """Keep the first of the questions that differ at most in case and punctuation."""
    kept: dict[str, Question] = {}
    for question in questions:
        kept.setdefault(re.sub(r"\W+", " ", question.text.lower()).strip(), question)
    return list(kept.values())


def cleaned(text: str) -> str | None:
    """Cut a written text to its first question; None where it holds none worth asking."""
    first = text.strip().split("\n")[0].strip()
    end = first.find("?")
    if end < 0:
        return None
    question = " ".join(first[: end + 1].split())
    words = re.findall(r"\w+", question.lower())
    repeats = len(words) - len(set(words))
    if len(words) < 4 or repeats > len(words) / 2:
        return None
    return question
