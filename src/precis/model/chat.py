"""The only owner of chat formatting: what stands before a document, after it, and where answers end.

A prompt has two parts that are tokenised each by itself, so that a prefix can take the place of the
first: *reading* (everything that is the same for all questions: the system's text, the document, the
instruction) and *asking* (the question with what is recalled for it, and on to where the answer begins).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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


class Chat:
    """How one tokenizer's model is spoken to.

    A model without a chat template gets a plain one: labelled lines.

    Parameters
    ----------
    tokenizer
        A Hugging Face tokenizer.
    stop_tokens
        Further token ids at which the model ends an answer (from its generation settings).
    """

    def __init__(self, tokenizer: Any, stop_tokens: Sequence[int] = ()) -> None:
        self.tokenizer = tokenizer
        self.has_template = bool(tokenizer.chat_template)
        if self.has_template:
            prompt = self._render([], _FIRST_TURN)
        else:
            prompt = f"{INSTRUCTION}\n\nDocument:\n{_DOCUMENT}\n\nQuestion: {_QUESTION}\nAnswer:"
        before, rest = prompt.split(_DOCUMENT)
        between, after = rest.split(_QUESTION)
        # the blank goes with the question: " What" is one token, and a lone blank is none that models know
        self.before = self._start() + self.encode(before)
        self.between = self.encode(between.removesuffix(" "))
        self._after = self.encode(after)
        self._turn_end = after.split("\n")[0]
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
        # the template's own text after every question, and after every answer
        after = self._after_each(len(turns))
        tokens = self.encode_plainly(f" {asked[0]}") + self.encode(after[0])
        for number, turn in enumerate(turns):
            answer = turn.answered if self.has_template else f" {turn.answered}"
            following = asked[number + 1] if self.has_template else f" {asked[number + 1]}"
            tokens += self.encode_plainly(answer) + self.encode(after[2 * number + 1])
            tokens += self.encode_plainly(following) + self.encode(after[2 * number + 2])
        return tokens

    def answer_tokens(self, answer: str) -> list[int]:
        """Tokens of an answer as the model would have written it, with the token that ends it."""
        text = answer if self.has_template else f" {answer}"
        return [*self.encode_plainly(text), *self._answer_end]

    def conversation(self, turns: Sequence[Turn], said: str) -> tuple[list[int], list[int]]:
        """Tokens of a conversation up to where the model answers `said`.

        Returns
        -------
        The tokens of the worked turns, which many conversations can share, and those of the rest.
        """
        if not self.has_template:
            worked = "".join(f"{turn.said}\n{turn.answered}\n\n" for turn in turns)
            return self._start() + self.encode(worked), self.encode_plainly(f"{said}\n")
        whole = self._render(turns, _DOCUMENT)
        worked_part, rest = whole.split(_DOCUMENT)
        return self._start() + self.encode(worked_part), self.encode_plainly(said) + self.encode(rest)

    def encode(self, text: str) -> list[int]:
        """Tokenise without adding anything."""
        tokens: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return tokens

    def encode_plainly(self, text: str) -> list[int]:
        """Tokenise a user's text: what looks like a special token is only text."""
        tokens: list[int] = self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return tokens

    def tokens_with(self, characters: str) -> frozenset[int]:
        """Find all tokens of the vocabulary whose text has one of some ASCII characters."""
        # byte-level vocabularies write a line feed as Ċ
        wanted = set(characters) | ({"Ċ"} if "\n" in characters else set())
        vocabulary: dict[str, int] = self.tokenizer.get_vocab()
        return frozenset(index for text, index in vocabulary.items() if wanted & set(text))

    def decode(self, tokens: Sequence[int]) -> str:
        """Give the text of generated tokens, without special ones."""
        text: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text.strip()

    def _render(self, turns: Sequence[Turn], said: str) -> str:
        messages = []
        for turn in turns:
            messages += [
                {"role": "user", "content": turn.said},
                {"role": "assistant", "content": turn.answered},
            ]
        messages.append({"role": "user", "content": said})
        # enable_thinking: reasoning models (Qwen3) else begin with a monologue
        text: str = self.tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
            # templates that name today's date (Llama 3) must give the same prompt tomorrow
            date_string="1 Jan 2026",
        )
        return text

    def _after_each(self, turns: int) -> list[str]:
        """Text that follows question, answer, question, … of a conversation about the document."""
        if not self.has_template:
            return ["\nAnswer:", *["\n\nQuestion:", "\nAnswer:"] * turns]
        marks = [f"{_MARK}{number}{_MARK}" for number in range(2 * turns + 1)]
        said = [_FIRST_TURN.replace(_QUESTION, marks[0]), *marks[2::2]]
        earlier = [Turn(*pair) for pair in zip(said[:-1], marks[1::2], strict=True)]
        rest = self._render(earlier, said[-1])
        after = []
        for mark in marks:
            before, rest = rest.split(mark)
            after.append(before)
        return [*after[1:], rest]

    def _start(self) -> list[int]:
        """Start token for the plain format; a template writes its own."""
        start = self.tokenizer.bos_token_id
        return [] if self.has_template or start is None else [start]

    def _own_stop_tokens(self) -> list[int]:
        """Give the token that closes a turn in the template, where it has one, and the end-of-text token."""
        stops = []
        if self.has_template:
            special = set(self.tokenizer.all_special_ids)
            stops += [token for token in self.encode(self._turn_end)[:1] if token in special]
        if self.tokenizer.eos_token_id is not None:
            stops.append(self.tokenizer.eos_token_id)
        return stops
