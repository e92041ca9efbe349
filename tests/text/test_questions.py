"""Question files in every known form, and what is said about those that are none."""

import io
import json
import zipfile
from datetime import date

import pytest
from openpyxl import Workbook

from precis.errors import QuestionsError
from precis.text.question_columns import answer_columns, option_columns, question_columns
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
        ('{"question": "Who?"}\n{"question": "Why?", "answers": [{"x": 7}]}', "line 2: found the answers "),
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


def workbook(*sheets):
    """An Excel file with a sheet for every list of rows."""
    book = Workbook()
    book.remove(book.active)
    for rows in sheets:
        sheet = book.create_sheet()
        for row in rows:
            sheet.append(row)
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    "line",
    [
        "1. Who?",
        "12) Who?",
        "(3) Who?",
        "1.2. Who?",
        "a) Who?",
        "#1 Who?",
        "#2: Who?",
        "# 3. Who?",
        "- Who?",
        "* 4. Who?",
        "• Who?",
        "Q: Who?",
        "Q1. Who?",
        "Question 2: Who?",
        "Frage: Who?",
    ],
)
def test_what_numbers_a_question_is_no_part_of_it(questions, line):
    assert questions(f"{line}\nWhy?\n") == [Question("Who?"), Question("Why?")]


@pytest.mark.parametrize(
    "line",
    ["1984 was what?", "3.5 tons of what?", "F. Scott Fitzgerald wrote what?", "-5 °C is what?", "[1] Who?"],
)
def test_a_question_that_begins_with_a_number_or_a_letter_is_left_whole(questions, line):
    assert questions(line) == [Question(line)]


def test_answers_in_plain_text_are_answers(questions):
    text = "Q: Who?\nA: Ann\nA2: Anne\n1. Where? Answer: Oslo\nWhy?\nAntwort: fog\n"
    assert questions(text) == [
        Question("Who?", ("Ann", "Anne")),
        Question("Where?", ("Oslo",)),
        Question("Why?", ("fog",)),
    ]
    with pytest.raises(QuestionsError, match="line 1: found the answer 'A: fog' before any question"):
        questions("A: fog\nQ: Why?")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(questions, encoding, end):
    text = end.join(["question\tanswer", '"Who, then?"\tAnn', "Où?\tParis", ""])
    expected = [Question("Who, then?", ("Ann",)), Question("Où?", ("Paris",))]
    assert questions(text.encode(encoding), "a.txt") == expected
    assert questions(f"Who, then?{end}Où?{end}".encode(encoding)) == [Question("Who, then?"), Question("Où?")]
    assert questions('{"question": "Où?"}'.encode(encoding)) == [Question("Où?")]


def test_text_that_is_cut_off_within_a_character(questions):
    with pytest.raises(QuestionsError, match="not UTF-16 text"):
        questions("Who?\nWhy?".encode("utf-16")[:-1])


@pytest.mark.parametrize(
    "table",
    [
        'question,answer\n"Who, then?",Ann\n',
        "sep=;\nFrage;Antwort\nWho, then?;Ann\n",
        "#;Frage;Musterantwort;Seite\n1;1. Who, then?;Ann;7\n",
        'My questions,,\n,,\nAnswer,Query,\nAnn,"Who, then?",\n',
        "| Question | Answer |\n|---|:--|\n| Who, then? | Ann |\n",
        "id\tquestion_type\tuser question\tanswer_start\tExpected answer\n1\tx\tWho, then?\t5\tAnn\n",
        'question,context,answer\n"Who, then?",' + 200_000 * "x" + ",Ann\n",
        "# a remark\nquestion\tanswer\nWho, then?\tAnn\n",
        "Who, then?\tAnn\n",
        '1,"Who, then?",Ann\n',
        'question,A,B,answer\n"Who, then?",Bob,Ann,B\n',
        'question,answer_a,answer_b,correct\n"Who, then?",Bob,Ann,Ann\n',
        'question,options,answer\n"Who, then?","[""Bob"", ""Ann""]",b\n',
    ],
)
def test_tables_are_read_by_the_names_of_their_columns(questions, table):
    assert questions(table, "a.csv") == [Question("Who, then?", ("Ann",))]
    assert questions(table, "a.txt") == [Question("Who, then?", ("Ann",))]


def test_several_columns_of_answers(questions):
    table = "question,answer1,answer2,answer3,reference\nWho?,Ann,,Anne,A.\nWhy?,\"['x', 'y']\",,,\n"
    assert questions(table) == [Question("Who?", ("Ann", "Anne", "A.")), Question("Why?", ("x", "y"))]
    assert questions("question,answer,answer\nWho?,Ann,Anne\n") == [Question("Who?", ("Ann", "Anne"))]


def test_a_table_of_questions_alone(questions):
    expected = [Question("Who, then?"), Question("Why?")]
    assert questions('question\n"Who, then?"\nWhy?\n', "a.csv") == expected
    assert questions('"Who, then?"\nWhy?\n', "a.csv") == expected
    assert questions("Questions:\nWho, then?\nWhy?\n") == expected


def test_prose_with_commas_is_no_table(questions):
    lines = ["These are questions, please answer", "Is it red, or blue?", "Tell me, please, why"]
    assert questions("\n".join(lines)) == [Question(line) for line in lines]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            "thing,other\nWho?,Ann\n",
            "begins with 'thing', 'other'; expected a first line that names the columns",
        ),
        ("Name the fee.\tforty\n", "begins with 'Name the fee.', 'forty'"),
        ("question,answer\nWho, then, is it?,Ann\n", "line 2: found 4 cells under 2 columns"),
        ('question,answer\n"Who?,Ann\n', "damaged CSV"),
        ("question,answer\n,Ann\n", "line 2: found"),
        ("question_en,question_de,answer\nWho?,Wer?,Ann\n", "found 2 columns of questions"),
        ("question,answer_a,answer_b\nWho?,Ann,Bob\n", "none that says which is right"),
        ("question,A,B,answer\nWho?,Ann,Bob,1\n", "counted from 0 or from 1"),
    ],
)
def test_tables_that_are_refused(questions, table, said):
    with pytest.raises(QuestionsError) as caught:
        questions(table, "a.csv")
    assert said in str(caught.value)
    if table.startswith("question,"):
        with pytest.raises(QuestionsError):
            questions(table, "a.txt")


def test_workbooks(questions):
    rows: list[list[object]] = [["Quiz"], [], ["Nr", "Frage", "Antwort", "Antwort 2"]]
    rows += [[1, "Wer?", "Ann", None], [2, "Wie viele?", 30, 30.0], [3, "Wann?", date(2020, 1, 2), None]]
    expected = [
        Question("Wer?", ("Ann",)),
        Question("Wie viele?", ("30",)),
        Question("Wann?", ("2020-01-02",)),
    ]
    assert questions(workbook(rows, [["notes"]]), "a.xlsx") == expected
    assert questions(workbook([["notes"]], rows[:4], rows[2:]), "a.csv") == expected
    assert questions(workbook([["Who?"], ["Why?"]])) == [Question("Who?"), Question("Why?")]


def test_workbooks_that_are_refused(questions):
    good = workbook([["question"], ["Who?"]])
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as parts:
        parts.writestr("a.txt", "Who?")
    broken = io.BytesIO()
    with zipfile.ZipFile(broken, "w") as parts:
        parts.writestr("xl/workbook.xml", "<workbook")
    for data, said in [
        (workbook([["foo", "bar"], ["Who?", 3]]), "begins with 'foo', 'bar'"),
        (workbook([]), "the workbook is empty"),
        (good[: len(good) // 2], "damaged workbook or archive"),
        (archive.getvalue(), "no Excel workbook"),
        (broken.getvalue(), "cannot be read"),
        (bytes.fromhex("D0CF11E0A1B11AE1") + b"x", "an old or a locked Office file"),
    ]:
        with pytest.raises(QuestionsError, match=said):
            questions(data, "a.xlsx")


def test_numbers_and_truth_are_answers(questions):
    lines = '{"question": "a?", "answers": [30, 1.0]}\n{"question": "b?", "answer": 0}\n'
    lines += '{"question": "c?", "answer": false}\n{"question": "d?", "answer": 12.5}\n'
    lines += '{"question": "e?", "answer": NaN}'
    answers = [("30", "1"), ("0",), ("no",), ("12.5",), ()]
    assert questions(lines) == [
        Question(f"{name}?", each) for name, each in zip("abcde", answers, strict=True)
    ]


def test_halves_of_surrogate_pairs_are_replaced(questions):
    lines = '{"question": "Wh\\ud800o?", "answer": "\\udfffx"}\n{"question": "\\ud83d\\ude00?"}'
    assert questions(lines) == [Question("Wh\ufffdo?", ("\ufffdx",)), Question("😀?")]
    with pytest.raises(QuestionsError) as caught:
        questions('{"query": "\\ud800"}')
    str(caught.value).encode()


QASPER = {"unanswerable": False, "extractive_spans": [], "yes_no": None, "free_form_answer": ""}
NEWSQA = [
    {"q": "Who sat?", "consensus": {"s": 4, "e": 8}, "validatedAnswers": [{"s": 0, "e": 7, "count": 1}]},
    {"q": "Bad", "consensus": {"badQuestion": True}},
    {"q": "Why?", "consensus": {"noAnswer": True}, "answers": [{"sourcerAnswers": [{"s": 4, "e": 8}]}]},
    {"q": "Where?", "answers": [{"sourcerAnswers": [{"s": 19, "e": 22}, {"noAnswer": True}]}]},
]
# A small file in every published shape, and its questions.
PUBLISHED = {
    "FairytaleQA": (
        "question_id,local-or-sum,question,ex-or-im1,answer1,answer2,ex-or-im2,answer4\n"
        "1,local,Who?,explicit,Ann,,explicit,Anne\n",
        [Question("Who?", ("Ann", "Anne"))],
    ),
    "NewsQA": (
        {"data": [{"storyId": "1", "text": "The cat sat on the mat.", "questions": NEWSQA}], "version": "1"},
        [Question("Who sat?", ("cat", "The cat")), Question("Why?"), Question("Where?", ("mat",))],
    ),
    "NewsQA, a table": (
        "story_id,question,answer_char_ranges,is_question_bad,validated_answers,story_text\n"
        'a,Who sat?,"4:8|None",0.0,"{""4:8"": 2}",The cat sat.\n',
        [Question("Who sat?", ("cat",))],
    ),
    "QuALITY": (
        {
            "article_id": "1",
            "article": "x",
            "questions": [
                {"question": "Who?", "options": ["Bob", "Ann"], "gold_label": 2, "writer_label": 1},
                {"question": "Why?", "options": ["fog", "rain"]},
            ],
        },
        [Question("Who?", ("Ann",)), Question("Why?")],
    ),
    "QASPER": (
        {
            "1909.1": {
                "title": "x",
                "qas": [
                    {
                        "question": "Which?",
                        "answers": [
                            {"answer": {**QASPER, "extractive_spans": ["A", "B"]}},
                            {"answer": {**QASPER, "free_form_answer": "both"}},
                            {"answer": {**QASPER, "yes_no": False}},
                            {"answer": {**QASPER, "unanswerable": True}},
                        ],
                    }
                ],
            }
        },
        [Question("Which?", ("A, B", "both", "no"))],
    ),
    "QASPER by columns": (
        {
            "id": "1",
            "qas": {
                "question": ["A?", "B?"],
                "answers": [
                    {"answer": [{**QASPER, "free_form_answer": "x"}]},
                    {"answer": [{**QASPER, "yes_no": True}]},
                ],
            },
        },
        [Question("A?", ("x",)), Question("B?", ("yes",))],
    ),
    "LongHealth": (
        {
            "patient_01": {
                "texts": {"text_0": "x"},
                "questions": [
                    {
                        "No": 0,
                        "question": "Who?",
                        "answer_a": "Bob",
                        "answer_b": "Ann",
                        "correct": "Ann",
                        "answer_location": {"text_0": {"start": [0.1]}},
                    }
                ],
            }
        },
        [Question("Who?", ("Ann",))],
    ),
    "NarrativeQA": (
        "document_id,set,question,answer1,answer2,question_tokenized,answer1_tokenized\n"
        'a,test,Who?,Ann,"Anne, she",Who ?,Ann\n',
        [Question("Who?", ("Ann", "Anne, she"))],
    ),
    "NarrativeQA, JSON": (
        {
            "question": {"text": "Who?", "tokens": ["Who", "?"]},
            "answers": [{"text": "Ann", "tokens": ["Ann"]}],
        },
        [Question("Who?", ("Ann",))],
    ),
    "TriviaQA": (
        {
            "Data": [
                {
                    "Question": "Who?",
                    "QuestionId": "1",
                    "Answer": {"Value": "Ann", "Aliases": ["Anne"], "NormalizedAliases": ["anne"]},
                }
            ],
            "Version": 1.0,
        },
        [Question("Who?", ("Ann", "Anne"))],
    ),
    "TriviaQA, lower case": (
        {"question": "Who?", "question_id": "1", "answer": {"value": "Ann", "aliases": ["Anne"]}},
        [Question("Who?", ("Ann", "Anne"))],
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sets(questions, name):
    content, expected = PUBLISHED[name]
    assert questions(content) == expected
    if isinstance(content, dict):
        assert questions(json.dumps(content, indent=1)) == expected
        assert questions(json.dumps(content) + "\n" + json.dumps(content)) == expected


def test_lists_by_columns_or_as_pairs(questions):
    expected = [Question("Who?", ("Ann",)), Question("How many?", ("3",))]
    assert questions({"question": ["Who?", "How many?"], "answer": ["Ann", 3]}) == expected
    assert questions([["Who?", "Ann"], ["How many?", 3]]) == expected
    assert questions({"questions": ["Who?"]}) == [Question("Who?")]


@pytest.mark.parametrize(
    "content",
    [
        {"data": [{"story": "x", "questions": [{"input_text": "Who?"}], "answers": [{"input_text": "Ann"}]}]},
        {"question_text": "Who?", "annotations": []},
        {"history_1": {"passage": "x", "qa_pairs": [{"question": "Who?"}]}},
        {"data": [{"storyId": "1", "questions": [{"q": "Who?", "consensus": {"s": 4, "e": 8}}]}]},
        {"questions": 3},
        [["Who", "Ann"]],
        {"question": ["Who?"], "answer": ["Ann", "Bob"]},
        {"question": "Who?", "options": ["Ann", "Bob"], "answer": 1},
    ],
)
def test_shapes_that_are_not_known_are_refused(questions, content):
    with pytest.raises(QuestionsError, match=r"found|given as number"):
        questions(content)


@pytest.mark.parametrize(
    ("names", "question", "answers", "options"),
    [
        (["question", "question_id", "answer", "answer_start"], ["question"], ["answer"], ""),
        (["Fragenummer", "Testfrage", "Referenzantwort"], ["Testfrage"], ["Referenzantwort"], ""),
        (["query", "Best Answer", "Incorrect Answers"], ["query"], ["Best Answer"], ""),
        (["q", "a"], ["q"], ["a"], ""),
        (["questionText", "goldAnswers", "is_answer_absent"], ["questionText"], ["goldAnswers"], ""),
        (["prompt", "completion"], ["prompt"], ["completion"], ""),
        (["question", "answer", "correct"], ["question"], ["answer"], ""),
        (["question", "ground_truth", "model answer"], ["question"], ["ground_truth"], ""),
        (["question", "option1", "option2", "answer"], ["question"], ["answer"], "ab"),
        (["question", "A", "B", "C", "answer"], ["question"], ["answer"], "abc"),
        (["thing", "id"], [], [], ""),
    ],
)
def test_names_of_columns(names, question, answers, options):
    assert question_columns(names) == question
    assert answer_columns(names) == answers
    assert "".join(option_columns(names)) == options
