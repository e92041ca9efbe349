"""Question files in every known form, and what is said about those that are none."""

import json

import pytest

from precis.errors import QuestionsError
from precis.text.questions import Question, SquadArticle, read_questions, squad_documents

SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Bees",
            "paragraphs": [
                {
                    "context": "Bees make honey.",
                    "qas": [
                        {
                            "question": "Who makes honey?",
                            "answers": [
                                {"text": "Bees", "answer_start": 0},
                                {"text": "Bees", "answer_start": 0},
                            ],
                        },
                        {"question": "Who makes wine?", "answers": [], "is_impossible": True},
                    ],
                },
                {
                    "context": "They live in hives.",
                    "qas": [{"question": "Where?", "answers": [{"text": "hives"}]}],
                },
            ],
        },
        {"paragraphs": [{"context": "Ants dig.", "qas": []}]},
    ],
}


@pytest.fixture
def questions(tmp_path):
    """Write a file and read its questions; what is no text is written as JSON."""

    def read_from(content, name="questions.txt"):
        path = tmp_path / name
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_questions(path)

    return read_from


def test_plain_text(questions):
    assert questions("\ufeffWho?\r\n\n# a remark\n  [1] Where? \n") == [
        Question("Who?"),
        Question("[1] Where?"),
    ]


def test_json_lines(questions):
    lines = (
        '{"question": "Who?", "answers": ["Ann", " Ann ", "Bob", ""]}\n\n'
        '{"question": " Where? ", "answer": "Oslo"}\n'
        '{"question": "When\u2028exactly?", "answers": null}\n'
        '{"question": "Why?"}'
    )
    assert questions(lines) == [
        Question("Who?", ("Ann", "Bob")),
        Question("Where?", ("Oslo",)),
        Question("When\u2028exactly?"),
        Question("Why?"),
    ]
    assert questions('{"question": "Who?"}') == [Question("Who?")]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.txt", "a"])
def test_the_content_decides_not_the_name(questions, name):
    assert questions("Who?", name) == [Question("Who?")]
    assert questions('{"question": "Who?"}\n{"question": "Why?"}', name)[1] == Question("Why?")
    assert questions(["Who?"], name) == [Question("Who?")]
    assert questions(SQUAD, name)[0].answers == ("Bees",)


def test_json_list(questions):
    entries = [
        "Who?",
        {"question": "Where?", "answers": "Oslo"},
        {"question": "When?", "answers": [{"text": "1801"}]},
        {"question": "Why?", "answers": {"text": ["fog", "rocks"], "answer_start": [1, 9]}},
    ]
    expected = [
        Question("Who?"),
        Question("Where?", ("Oslo",)),
        Question("When?", ("1801",)),
        Question("Why?", ("fog", "rocks")),
    ]
    assert questions(entries) == expected
    assert questions(json.dumps(entries, indent=2)) == expected


def test_squad(questions):
    expected = [
        Question("Who makes honey?", ("Bees",)),
        Question("Who makes wine?"),
        Question("Where?", ("hives",)),
    ]
    assert questions(SQUAD) == expected
    assert questions(json.dumps(SQUAD, indent=1)) == expected


def test_squad_documents(tmp_path):
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(SQUAD))
    bees, ants = squad_documents(path)
    assert (bees.title, bees.text) == ("Bees", "Bees make honey.\n\nThey live in hives.")
    assert [question.text for question in bees.questions] == ["Who makes honey?", "Who makes wine?", "Where?"]
    assert ants == SquadArticle("article 2", "Ants dig.", ())


def test_duplicates_are_merged_in_place(questions):
    entries = [
        {"question": "Who?", "answers": ["Ann"]},
        "Why?",
        {"question": "Who? ", "answers": ["Bob", "Ann"]},
    ]
    assert questions(entries) == [Question("Who?", ("Ann", "Bob")), Question("Why?")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "the file is empty"),
        (" \n", "the file is empty"),
        ("# only a remark\n", "holds no question"),
        ("[]", "holds no question"),
        ({"data": []}, "holds no question"),
        ("Café?".encode("latin-1"), "not UTF-8 text (see byte 3)"),
        ('{"question": "Who?"}\n\n{"question": "Wh', "a.txt, line 3: not JSON (Unterminated string"),
        ('{"question": "Who?"}\nWhy?', "a.txt, line 2: not JSON"),
        ('{"query": "Who?"}', 'line 1: found {"query": "Who?"}; expected a text, or {"question"'),
        ('{"question": "Who?"}\n{"question": " "}', 'line 2: found {"question": " "}; expected'),
        ('{"question": "Who?"}\n{"question": 7}', "line 2: found"),
        ('{"question": "Who?"}\n{"question": "Why?", "answers": [7]}', "line 2: found the answers [7]"),
        ('["Who?", "Wh', "damaged JSON list"),
        (["Who?", None], "item 2: found null"),
        ({"data": {}}, "found {\"data\": {}}; expected SQuAD JSON with a list as 'data'"),
        ({"data": [{"title": "Bees"}]}, "article 1: found"),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, "paragraph 1: found"),
        ({"data": [{"paragraphs": [{"context": "x", "qas": [{}]}]}]}, "paragraph 1, question 1: found {}"),
    ],
)
def test_errors_name_the_place_and_what_is_expected(questions, tmp_path, content, said):
    with pytest.raises(QuestionsError) as caught:
        questions(content, "a.txt")
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "a.txt"))


def test_errors_of_files(tmp_path):
    with pytest.raises(QuestionsError, match="no such file"):
        read_questions(tmp_path / "missing.txt")
    with pytest.raises(QuestionsError, match="cannot be read"):
        read_questions(tmp_path)


def test_errors_of_squad_documents(tmp_path):
    path = tmp_path / "a.json"
    for content, said in [("Who?", "not JSON"), ("[]", "'data'"), ('{"data": []}', "holds no article")]:
        path.write_text(content)
        with pytest.raises(QuestionsError, match=said):
            squad_documents(path)
