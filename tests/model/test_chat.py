"""Prompts: split where a prefix can take the document's place."""

from precis.model.chat import BRIEF_INSTRUCTION, INSTRUCTION, Chat, Turn
from tests.conftest import make_tokenizer

TEMPLATE = (
    "{% for message in messages %}<turn>{{ message['role'] }}\n{{ message['content'] | trim }}<end>\n"
    "{% endfor %}{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
)


def test_reading_and_asking_together_are_the_templates_own_prompt():
    tokenizer = make_tokenizer(TEMPLATE)
    chat = Chat(tokenizer)
    content = f"Document:\nThe lamp is red.\n\n{BRIEF_INSTRUCTION}\nQuestion: What is red?"
    whole = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    tokens = chat.document_prompt("The lamp is red.") + chat.question_prompt("What is red?")
    assert tokenizer.decode(tokens) == whole


def test_the_turns_closing_token_ends_an_answer():
    tokenizer = make_tokenizer(TEMPLATE)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>", "<end>"]})
    chat = Chat(tokenizer, stop_tokens=[7])
    assert chat.stop_tokens == {7, tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<end>")}


def test_without_a_template_a_plain_one_is_used():
    chat = Chat(make_tokenizer())
    assert chat.document_prompt("x")[0] == chat.tokenizer.bos_token_id
    text = chat.tokenizer.decode(
        chat.document_prompt("The lamp is red.")[1:] + chat.question_prompt("What is red?")
    )
    assert text == f"{INSTRUCTION}\n\nDocument:\nThe lamp is red.\n\nQuestion: What is red?\nAnswer:"


def test_a_conversation_splits_before_what_is_said_last():
    for template in (None, TEMPLATE):
        chat = Chat(make_tokenizer(template))
        worked, rest = chat.conversation([Turn("one", "two")], "three")
        again, other = chat.conversation([Turn("one", "two")], "four")
        assert worked == again
        assert "three" in chat.tokenizer.decode(rest)
        assert "four" in chat.tokenizer.decode(other)
        assert "two" in chat.tokenizer.decode(worked)


def test_a_conversation_about_the_document_is_the_templates_own_prompt():
    tokenizer = make_tokenizer(TEMPLATE)
    chat = Chat(tokenizer)
    first = f"Document:\nThe lamp is red.\n\n{BRIEF_INSTRUCTION}\nQuestion: Be brief.\nWhat is red?"
    messages = [
        {"role": "user", "content": first},
        {"role": "assistant", "content": "the lamp"},
        {"role": "user", "content": "and <end> 0?"},
        {"role": "assistant", "content": "nine"},
        {"role": "user", "content": "why"},
    ]
    whole = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    turns = [Turn("What is red?", "the lamp"), Turn("and <end> 0?", "nine")]
    tokens = chat.document_prompt("The lamp is red.") + chat.conversation_prompt(turns, "why", "Be brief.")
    assert tokenizer.decode(tokens) == whole
    assert tokens.count(tokenizer.convert_tokens_to_ids("<end>")) == 5


def test_a_plain_conversation_about_the_document_repeats_its_labels():
    chat = Chat(make_tokenizer())
    text = chat.tokenizer.decode(
        chat.conversation_prompt([Turn("What is red?", "the lamp")], "why", "Be brief.")
    )
    assert text == " Be brief.\nWhat is red?\nAnswer: the lamp\n\nQuestion: why\nAnswer:"


def test_a_conversation_that_begins_is_a_question():
    for template in (None, TEMPLATE):
        chat = Chat(make_tokenizer(template))
        assert chat.conversation_prompt([], "What is red?") == chat.question_prompt("What is red?")


def test_special_tokens_in_a_users_text_are_only_text():
    chat = Chat(make_tokenizer(TEMPLATE))
    stop = chat.tokenizer.eos_token_id
    assert stop not in chat.document_prompt("The lamp </s> is red.") + chat.question_prompt("What </s>?")
    assert "</s>" in chat.tokenizer.decode(chat.question_prompt("What </s>?"))


def test_text_that_looks_like_a_placeholder_is_left_alone():
    chat = Chat(make_tokenizer())
    assert "{document}" in chat.tokenizer.decode(chat.document_prompt("{document} {}"))


def test_turns_that_look_like_a_mark_are_left_alone():
    for template in (None, TEMPLATE):
        chat = Chat(make_tokenizer(template))
        mark = "\N{OBJECT REPLACEMENT CHARACTER}document\N{OBJECT REPLACEMENT CHARACTER}"
        worked, rest = chat.conversation([Turn(mark, "two")], "three")
        assert mark in chat.tokenizer.decode(worked)
        assert mark not in chat.tokenizer.decode(rest)


def test_a_blank_of_the_template_goes_with_what_follows_it():
    spaced = TEMPLATE.replace("}}\n{{", "}}: {{")
    tokenizer = make_tokenizer(spaced)
    chat = Chat(tokenizer)
    messages = [
        {"role": "user", "content": "the lamp"},
        {"role": "assistant", "content": "the harbour"},
        {"role": "user", "content": "the lamp"},
    ]
    whole = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    worked, rest = chat.conversation([Turn("the lamp", "the harbour")], "the lamp")
    assert worked + rest == tokenizer.encode(whole, add_special_tokens=False)
    asked = chat.conversation_prompt([Turn("the lamp", "the harbour")], "the lamp")
    assert tokenizer.decode(asked) in whole.replace("user: the lamp", " the lamp", 1)
