"""The only owner of chat formatting: what stands before a document, after it, and where answers end.

A prompt has two parts that are tokenised each by itself, so that a prefix can take the place of the
first: *reading* (everything that is the same for all questions: the system's text, the document, the
instruction) and *asking* (the question with what is recalled for it, and on to where the answer begins).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from precis.errors import ModelError
from precis.model.encoding import Encoding

INSTRUCTION = "Answer the question from the document."
# Small models follow an instruction best right before the question: on two documents the default model
# then ends 86 % of its answers by itself, against 44 % with the instruction before the document.
BRIEF_INSTRUCTION = "Answer the question from the document in a few words."

_MARK = "\N{OBJECT REPLACEMENT CHARACTER}"
_DOCUMENT = f"{_MARK}document{_MARK}"
_QUESTION = f"{_MARK}question{_MARK}"
_FIRST_TURN = f"Document:\n{_DOCUMENT}\n\n{BRIEF_INSTRUCTION}\nQuestion: {_QUESTION}"


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation: what was said, and how it was answered."""

    said: str
    answered: str


def _with_recalled(question: str, recalled: str) -> str:
    """Put a passage before a question, in the words that the default model answers best from."""
    return f"{recalled}\nQuestion: {question}" if recalled else question


def _split_at(text: str, marks: Sequence[str]) -> list[str]:
    """Cut a rendered prompt at marks, each of which stands in it once, in this order."""
    parts = []
    for mark in marks:
        if text.count(mark) != 1:
            times = "leaves out" if mark not in text else f"repeats {text.count(mark)} times, or reorders,"
            raise _unusable(f"it {times} what is said")
        part, text = text.split(mark)
        parts.append(part)
    return [*parts, text]


def _unusable(reason: str) -> ModelError:
    return ModelError(
        f"The model's chat template cannot be used: {reason}. Use a model with another template, or take the "
        "template away (chat_template.jinja, or 'chat_template' in tokenizer_config.json): the model is then "
        "spoken to in plain lines with labels."
    )


class Chat:
    """How one tokenizer's model is spoken to.

    A model without a chat template gets a plain one: labelled lines.

    Parameters
    ----------
    tokenizer
        A Hugging Face tokenizer.
    stop_tokens
        Further token ids at which the model ends an answer (from its generation settings).

    Raises
    ------
    ModelError
        The tokenizer's chat template cannot be used: it fails, or leaves out what is said.
    """

    def __init__(self, tokenizer: Any, stop_tokens: Sequence[int] = ()) -> None:
        self.tokenizer = tokenizer
        self._encoding = Encoding(tokenizer)
        self.has_template = bool(tokenizer.chat_template)
        if self.has_template:
            prompt = self._render([], _FIRST_TURN)
        else:
            prompt = f"{INSTRUCTION}\n\nDocument:\n{_DOCUMENT}\n\nQuestion: {_QUESTION}\nAnswer:"
        before, between, after = _split_at(prompt, [_DOCUMENT, _QUESTION])
        # the blank goes with the question: " What" is one token, and a lone blank is none that models know
        self.before = self._start() + self._encoding.beginning(before)
        self.between = self.encode(between.removesuffix(" "))
        self._after = self.encode(after)
        # what stands before an answer is the template's, too, where the model has to write it
        self._before_answer = " " if self._after_each(1)[0] == f"{after} " else ""
        own = self._own_stop_tokens()
        self.stop_tokens = frozenset(stop_tokens) | frozenset(own)
        self._answer_end = [*own, *stop_tokens][:1]

    def document_prompt(self, document: str) -> list[int]:
        """Tokens of everything before the question: document and instruction.

        They are the same for every question, so that a prefix can hold them all.
        """
        return [*self.before, *self.encode_plainly(document), *self.between]

    def document_tokens(self, document: str) -> int:
        """How many tokens the document alone has."""
        return len(self.encode_plainly(document))

    def question_prompt(self, question: str, recalled: str = "") -> list[int]:
        """Tokens of the question, and on to where the answer begins.

        Parameters
        ----------
        question
            What is asked.
        recalled
            What the document says on it, word for word; it stands before the question.
        """
        return [*self.encode_plainly(f" {_with_recalled(question, recalled)}"), *self._after]

    def conversation_prompt(
        self, turns: Sequence[Turn], question: str, instruction: str = "", recalled: str = ""
    ) -> list[int]:
        """Tokens of a conversation about the document, and on to where the next answer begins.

        Parameters
        ----------
        turns
            What was asked and answered before; with none, and no instruction, it is `question_prompt`.
        question
            What is asked now.
        instruction
            What is to be heeded in all answers; it stands before the first question.
        recalled
            What the document says on what is asked now.
        """
        asked = [*(turn.said for turn in turns), _with_recalled(question, recalled)]
        if instruction:
            asked[0] = f"{instruction}\n{asked[0]}"
        said = [asked[0]]
        for turn, following in zip(turns, asked[1:], strict=True):
            said += [turn.answered, following]
        tokens: list[int] = []
        blank = " "
        # the template's own text after every question, and after every answer; a blank goes with what follows
        *within, last = self._after_each(len(turns))
        for text, after in zip(said, within, strict=False):
            tokens += self.encode_plainly(blank + text) + self.encode(after.removesuffix(" "))
            blank = " " if after.endswith(" ") else ""
        return tokens + self.encode_plainly(blank + said[-1]) + self.encode(last)

    def answer_tokens(self, answer: str) -> list[int]:
        """Tokens of an answer as the model would have written it, with the token that ends it."""
        return [*self.encode_plainly(self._before_answer + answer), *self._answer_end]

    def conversation(self, turns: Sequence[Turn], said: str) -> tuple[list[int], list[int]]:
        """Tokens of a conversation up to where the model answers `said`.

        Returns
        -------
        The tokens of the worked turns, which many conversations can share, and those of the rest.
        """
        if not self.has_template:
            worked = "".join(f"{turn.said}\n{turn.answered}\n\n" for turn in turns)
            return self._start() + self._encoding.beginning(worked), self.encode_plainly(f"{said}\n")
        # from the right: what was said before can look like the mark
        worked_part, rest = self._render(turns, _DOCUMENT).rsplit(_DOCUMENT, 1)
        if worked_part.endswith(" "):  # the blank goes with what is said
            worked_part, said = worked_part[:-1], f" {said}"
        worked_tokens = self._start() + self._encoding.beginning(worked_part)
        return worked_tokens, self.encode_plainly(said) + self.encode(rest)

    def encode(self, text: str) -> list[int]:
        """Tokenise what stands within a prompt, without adding anything."""
        return self._encoding.part(text)

    def encode_plainly(self, text: str) -> list[int]:
        """Tokenise a user's text: what looks like a special token is only text."""
        return self._encoding.plain(text)

    def tokens_with(self, characters: str) -> frozenset[int]:
        """Find all tokens of the vocabulary whose text has one of some ASCII characters."""
        # byte-level vocabularies write a line feed as Ċ, SentencePiece's write bytes by their numbers
        wanted = set(characters) | ({"Ċ"} if "\n" in characters else set())
        bytes_wanted = {f"<0x{ord(character):02X}>" for character in characters}
        vocabulary: dict[str, int] = self.tokenizer.get_vocab()
        return frozenset(
            index for text, index in vocabulary.items() if wanted & set(text) or text in bytes_wanted
        )

    def decode(self, tokens: Sequence[int]) -> str:
        """Give the text of generated tokens, without special ones."""
        # what ends an answer is no part of it, even where the tokenizer does not know it for special
        said = [token for token in tokens if token not in self.stop_tokens]
        text: str = self.tokenizer.decode(said, skip_special_tokens=True)
        return text.strip()

    def highest_token(self) -> int:
        """Give the highest token id of a prompt: of the vocabulary, and of the template's added tokens."""
        added = self.tokenizer.added_tokens_decoder
        vocabulary = (index for index in self.tokenizer.get_vocab().values() if index not in added)
        return max([*self.before, *self.between, *self._after, *vocabulary], default=0)

    def _render(self, turns: Sequence[Turn], said: str) -> str:
        messages = []
        for turn in turns:
            messages += [
                {"role": "user", "content": turn.said},
                {"role": "assistant", "content": turn.answered},
            ]
        messages.append({"role": "user", "content": said})
        try:
            # enable_thinking: reasoning models (Qwen3) else begin with a monologue
            text: str = self.tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,
                # templates that name today's date (Llama 3) must give the same prompt tomorrow
                date_string="1 Jan 2026",
            )
        except Exception as cause:  # a template is a program, which can fail in any way
            reason = " ".join(str(cause).split())[:200]
            raise _unusable(f"it fails ({type(cause).__name__}: {reason})") from cause
        return text

    def _after_each(self, turns: int) -> list[str]:
        """Text that follows question, answer, question, … of a conversation about the document."""
        if not self.has_template:
            return [*["\nAnswer: ", "\n\nQuestion: "] * turns, "\nAnswer:"]
        marks = [f"{_MARK}{number}{_MARK}" for number in range(2 * turns + 1)]
        said = [_FIRST_TURN.replace(_QUESTION, marks[0]), *marks[2::2]]
        earlier = [Turn(*pair) for pair in zip(said[:-1], marks[1::2], strict=True)]
        rest = self._render(earlier, said[-1])
        return _split_at(rest, marks)[1:]

    def _start(self) -> list[int]:
        """Start token for the plain format; a template writes its own."""
        start = self.tokenizer.bos_token_id
        return [] if self.has_template or start is None else [start]

    def _own_stop_tokens(self) -> list[int]:
        """Give the token that the template puts after an answer, if any, and the end-of-text token."""
        stops = []
        if self.has_template:
            _, after_an_answer, _ = self._after_each(1)
            first = self.encode(after_an_answer.lstrip())[:1]
            stops += [token for token in first if token in self._encoding.control]
        if self.tokenizer.eos_token_id is not None:
            stops.append(self.tokenizer.eos_token_id)
        return stops
