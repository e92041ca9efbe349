"""Train the small test model and write it to `tests/recall_model/`.

    python tests/make_recall_model.py [--output FOLDER] [--seed 0]

The model reads a document in the language of `recall.py` and answers questions on it; without the document
it guesses. It is a Llama of 468,096 parameters (3 layers, 4 heads on 2 key-value heads, hidden size 128),
stored in bfloat16: 0.95 MB with its tokenizer, which has one token for each of 194 words.

The training takes 1,700 steps, 4.6 minutes on one core. On fresh documents, in each of the 6 phrasings, the
greedy answer is right for 100 % of questions at 4 facts, 99.5 % at 12, 99 % at 20 and 99.4 % at 30 (about 200
facts each); without the document for 3 to 10 %, where chance is 6.25 %. The guess is calibrated: the negative
log-likelihood of the value is 2.8 without the document, like an even choice of 16, and 0.03 or less with it.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that the script finds `tests`, as pytest does

from tests.recall import (
    NAMES,
    PHRASINGS,
    RELATIONS,
    VALUES,
    Fact,
    answer_text,
    document_text,
    make_facts,
    prefix_text,
    question_text,
    suffix_text,
)

FOLDER = Path(__file__).parent / "recall_model"
UNKNOWN, PADDING, BEGIN, END = "<unk>", "<pad>", "<s>", "</s>"
NO_TARGET = -100


@dataclass(frozen=True)
class Stage:
    """A part of the training: what its documents are like, and how many questions there are on each.

    A document has facts of one to `relations` relations; the questions are put in the first `phrasings`
    ways. `unanswerable` is the share of documents that are empty, and of questions on facts that the
    document does not state: there the target is a random value of the right relation, so that the model
    learns to spread its guess over all of them.
    """

    steps: int
    fewest_facts: int
    most_facts: int
    relations: int
    phrasings: int
    questions: int
    unanswerable: float = 0.0


# Where documents have several relations, matching the relation alone is right so often that matching the
# name is not learned for very long: so documents of a single relation come first, with questions that end
# alike. Questions without an answer come last, since they only add noise before.
STAGES = (
    Stage(450, fewest_facts=2, most_facts=6, relations=1, phrasings=2, questions=8),
    Stage(300, fewest_facts=2, most_facts=8, relations=1, phrasings=6, questions=8),
    Stage(450, fewest_facts=2, most_facts=12, relations=6, phrasings=6, questions=12),
    Stage(500, fewest_facts=4, most_facts=30, relations=6, phrasings=6, questions=16, unanswerable=0.1),
)
DOCUMENTS_PER_STEP = 8
LEARNING_RATE = 1e-3
WARM_UP_STEPS = 50
ROPE_THETA = 100_000.0


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer with one token a word, which knows exactly the words of the language."""
    splitter = pre_tokenizers.Whitespace()  # words and runs of punctuation; blanks and newlines vanish
    texts = [prefix_text(""), *NAMES]
    for relation in RELATIONS:
        facts = [Fact(NAMES[0], relation, value) for value in VALUES[relation]]
        texts += [
            document_text(facts),
            *(suffix_text(question_text(facts[0], p)) for p in range(len(PHRASINGS))),
        ]
    words = dict.fromkeys(word for text in texts for word, _ in splitter.pre_tokenize_str(text))
    vocabulary = {word: number for number, word in enumerate([UNKNOWN, PADDING, BEGIN, END, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = splitter
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A $B", special_tokens=[(BEGIN, vocabulary[BEGIN])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=UNKNOWN,
        pad_token=PADDING,
        bos_token=BEGIN,
        eos_token=END,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Make the untrained model: Llama's architecture, with grouped-query attention and tied embeddings."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=512,
            rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


# How far back the heads of the first layer look at the start. In a sentence the name stands 2 words before
# the value and the relation 4; in the first phrasings they stand 3 and 5 words before the prompt's
# last one.
LOOK_BACK = (2, 4, 3, 5)


@torch.no_grad()
def prepare(model: LlamaForCausalLM) -> None:
    """Set the first weights near to looking things up; from random ones, 600 steps did not get there.

    The heads of the first layer look back a few words, those of the later layers look for what is like
    the word they are at, and all of them copy what they find. What counts as alike is left to training.
    """
    config = model.config
    heads, groups, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    embeddings = model.model.embed_tokens.weight
    embeddings.normal_(std=0.08)
    # A direction that all words share is what a head can attend to without regard to the word; as a constant
    # in all the logits it changes no prediction.
    shared = torch.nn.functional.normalize(torch.randn(config.hidden_size), dim=0)
    embeddings += shared * embeddings.norm(dim=1).mean()
    for number, layer in enumerate(model.model.layers):
        attention = layer.self_attn
        values = attention.v_proj.weight.normal_(std=config.hidden_size**-0.5)
        attention.o_proj.weight.copy_(per_head(values, heads, groups).T)
        if number == 0:
            keys = [look_back(0, size)] * groups
            queries = [look_back(distance, size) for distance in LOOK_BACK]
            attention.k_proj.weight += torch.outer(torch.cat(keys), shared)
            attention.q_proj.weight += torch.outer(torch.cat(queries), shared)
        else:
            keys = attention.k_proj.weight.mul_(3)
            attention.q_proj.weight += per_head(keys, heads, groups)


def per_head(weight: torch.Tensor, heads: int, groups: int) -> torch.Tensor:
    """Repeat the rows of a key or value projection for each of the heads that share them."""
    return weight.unflatten(0, (groups, -1)).repeat_interleave(heads // groups, dim=0).flatten(0, 1)


def look_back(distance: int, size: int) -> torch.Tensor:
    """Make the query that best matches the key `look_back(0, size)` standing `distance` words before it.

    Only the fastest turning pairs of the rotary embedding tell one word from the next.
    """
    angles = ROPE_THETA ** -(torch.arange(size // 2) / (size // 2)) * distance
    used = 0.7 * (torch.arange(size // 2) < 6)
    return torch.cat([angles.cos() * used, -angles.sin() * used])


@dataclass(frozen=True)
class Batch:
    """Documents with the questions on them, as the model's inputs.

    tokens, positions, targets: [row, token]; targets are `NO_TARGET` but where an answer is predicted.
    mask: [row, 1, token, token], true where the first token sees the second.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    targets: torch.Tensor


class BatchMaker:
    """Draws documents and questions, and lays them out.

    All the questions on a document share its tokens: they stand in one row after it, each at the positions
    right behind the document, and the mask shows each just the document and itself. The result is the same
    as with one row a question, in a fraction of the time.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        self.tokenizer = tokenizer
        self.draw = random.Random(seed)

    def encode(self, text: str) -> list[int]:
        """Turn text into tokens, without the beginning-of-sequence token."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def absent_fact(self, facts: list[Fact]) -> Fact:
        """Draw a fact that is none of `facts`, with a random value."""
        stated = {(fact.name, fact.relation) for fact in facts}
        while True:
            name, relation = self.draw.choice(NAMES), self.draw.choice(RELATIONS)
            if (name, relation) not in stated:
                return Fact(name, relation, self.draw.choice(VALUES[relation]))

    def row(self, count: int, stage: Stage) -> tuple[list[int], list[list[int]], list[list[int]]]:
        """Draw a document of `count` facts: its tokens, and the tokens and targets of the questions on it."""
        facts = []
        if self.draw.random() >= stage.unanswerable:
            relations = self.draw.sample(RELATIONS, self.draw.randint(1, stage.relations))
            facts = make_facts(count, self.draw.getrandbits(48), relations)
        document = [self.tokenizer.bos_token_id, *self.encode(prefix_text(document_text(facts)))]
        questions, targets = [], []
        for _ in range(stage.questions):
            absent = not facts or self.draw.random() < stage.unanswerable
            fact = self.absent_fact(facts) if absent else self.draw.choice(facts)
            question = self.encode(suffix_text(question_text(fact, self.draw.randrange(stage.phrasings))))
            answer = self.encode(answer_text(fact))
            questions.append(question + answer)
            targets.append([NO_TARGET] * (len(question) - 1) + answer + [self.tokenizer.eos_token_id])
        return document, questions, targets

    def batch(self, stage: Stage) -> Batch:
        """Draw a step's documents, all with the same number of facts, so that little is padded."""
        count = self.draw.randint(stage.fewest_facts, stage.most_facts)
        rows = [self.row(count, stage) for _ in range(DOCUMENTS_PER_STEP)]
        length = max(len(document) + sum(map(len, questions)) for document, questions, _ in rows)
        tokens = torch.full((len(rows), length), self.tokenizer.pad_token_id)
        positions = torch.zeros((len(rows), length), dtype=torch.long)
        owner = torch.full((len(rows), length), -1)  # 0: the document, k: the kth question, -1: padding
        targets = torch.full((len(rows), length), NO_TARGET)
        for index, (document, questions, wanted) in enumerate(rows):
            end = len(document)
            tokens[index, :end] = torch.tensor(document)
            positions[index, :end] = torch.arange(end)
            owner[index, :end] = 0
            for number, (question, target) in enumerate(zip(questions, wanted, strict=True), start=1):
                here = slice(end, end + len(question))
                tokens[index, here] = torch.tensor(question)
                positions[index, here] = len(document) + torch.arange(len(question))
                owner[index, here] = number
                targets[index, here] = torch.tensor(target)
                end = here.stop
        seen = (owner[:, None, :] == 0) | (owner[:, None, :] == owner[:, :, None])
        return Batch(tokens, positions, (seen & torch.ones(length, length).tril().bool())[:, None], targets)


def answer_loss(model: LlamaForCausalLM, batch: Batch) -> tuple[torch.Tensor, float]:
    """Compute the mean cross-entropy at the answers' tokens, and the share of them that come first."""
    hidden = model.model(
        input_ids=batch.tokens, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
    ).last_hidden_state
    asked = batch.targets != NO_TARGET
    logits, wanted = model.lm_head(hidden[asked]), batch.targets[asked]
    return torch.nn.functional.cross_entropy(logits, wanted), (
        logits.argmax(-1) == wanted
    ).float().mean().item()


def batches(maker: BatchMaker) -> Iterator[Batch]:
    """Draw the batches of all the stages, one after the other."""
    for stage in STAGES:
        for _ in range(stage.steps):
            yield maker.batch(stage)


def rate(step: int, steps: int) -> float:
    """Give the learning rate's factor: up at first, level, and down to nothing over the last third."""
    return min(1.0, (step + 1) / WARM_UP_STEPS, (steps - step) / (steps / 3))


def train(model: LlamaForCausalLM, maker: BatchMaker) -> None:
    """Train the model through all the stages."""
    steps = sum(stage.steps for stage in STAGES)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    start = time.monotonic()
    for step, batch in enumerate(batches(maker)):
        loss, right = answer_loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 0:
            spent = time.monotonic() - start
            print(
                f"step {step} of {steps}: loss {loss.item():.3f}, right {right:.3f}, {spent:.0f} s",
                flush=True,
            )


@torch.no_grad()
def accuracy(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    facts: list[Fact],
    phrasing: int,
    *,
    document: bool = True,
) -> float:
    """Measure the share of greedy answers that are right, end included, with or without the document.

    Questions of one phrasing are equally long, and so is every answer: plain rows without padding.
    """
    prefix = prefix_text(document_text(facts) if document else "")
    rows = [prefix + suffix_text(question_text(fact, phrasing)) + " " + answer_text(fact) for fact in facts]
    tokens = tokenizer(rows, return_tensors="pt")["input_ids"]
    wanted = torch.cat([tokens[:, -1:], torch.full_like(tokens[:, :1], tokenizer.eos_token_id)], dim=1)
    guess = model(input_ids=tokens, logits_to_keep=2).logits.argmax(-1)
    return (guess == wanted).all(dim=1).float().mean().item()


def report(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Print the accuracy of each phrasing over fresh documents of several lengths, and without a document."""
    for count in (4, 10, 20, 30):
        documents = [make_facts(count, seed) for seed in range(10**6, 10**6 + 200 // count)]
        for given in (True, False):
            shares = [
                sum(accuracy(model, tokenizer, facts, phrasing, document=given) for facts in documents)
                / len(documents)
                for phrasing in range(len(PHRASINGS))
            ]
            name = "with the document" if given else "without it"
            print(f"{count} facts, {name}: " + " ".join(f"{share:.3f}" for share in shares))


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the model and its tokenizer, the weights in half precision."""
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    """Train, write and measure."""
    parser = argparse.ArgumentParser(description="Train the small test model.")
    parser.add_argument("--output", type=Path, default=FOLDER, help="the folder to write")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # the same sums in the same order on every machine, as far as that goes
    torch.manual_seed(options.seed)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    prepare(model)
    print(f"{len(tokenizer)} words, {model.num_parameters():,} parameters", flush=True)
    train(model, BatchMaker(tokenizer, options.seed))
    save(model, tokenizer, options.output)
    report(LlamaForCausalLM.from_pretrained(options.output, dtype=torch.float32).eval(), tokenizer)


if __name__ == "__main__":
    main()
