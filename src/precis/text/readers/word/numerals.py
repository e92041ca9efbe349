"""Numbers as Word writes them before a clause: 4, iv, D, fourth."""

from __future__ import annotations

_ROMAN = {
    **{1000: "m", 900: "cm", 500: "d", 400: "cd", 100: "c", 90: "xc"},
    **{50: "l", 40: "xl", 10: "x", 9: "ix", 5: "v", 4: "iv", 1: "i"},
}
_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
    *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth"}
_ORDINALS |= {"nine": "ninth", "twelve": "twelfth"}
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_RUSSIAN = "абвгдежзиклмнопрстуфхцчшщыэюя"
_CHICAGO = "*†‡§"
_HAN = "〇一二三四五六七八九"


def numeral(value: int, form: str) -> str:
    """Write a number in one of Word's formats (`w:numFmt`); in digits where the format is unknown."""
    if value < 1:
        return "" if form in {"none", "bullet"} else str(value)
    match form:
        case "none" | "bullet":
            return ""
        case "lowerLetter" | "upperLetter":
            return _cased(_repeated(value, _LETTERS), form)
        case "russianLower" | "russianUpper":
            return _cased(_repeated(value, _RUSSIAN), form)
        case "lowerRoman" | "upperRoman":
            return _cased(roman(value), form)
        case "cardinalText":
            return _cardinal(value).capitalize()
        case "ordinalText":
            return _ordinal_text(value).capitalize()
        case "chicago":
            return _repeated(value, _CHICAGO)
    return _in_digits(value, form)


def _in_digits(value: int, form: str) -> str:
    match form:
        case "decimalZero":
            return f"{value:02}"
        case "ordinal":
            return f"{value}{_ordinal_ending(value)}"
        case "decimalEnclosedCircle" | "decimalEnclosedCircleChinese" if value <= 20:
            return chr(0x245F + value)
        case "decimalEnclosedParen":
            return f"({value})"
        case "decimalEnclosedFullstop":
            return f"{value}."
        case "numberInDash":
            return f"- {value} -"
        case "hex":
            return f"{value:X}"
        case "chineseCounting" | "chineseCountingThousand" | "japaneseCounting" | "taiwaneseCountingThousand":
            return _han(value)
        case "ideographDigital" | "taiwaneseDigital" | "japaneseDigitalTenThousand":
            return "".join(_HAN[int(digit)] for digit in str(value))
    return str(value)


def roman(value: int) -> str:
    """Write a number above 0 in small Roman numerals."""
    written = ""
    for worth, letters in _ROMAN.items():
        count, value = divmod(value, worth)
        written += letters * count
    return written


def _cased(text: str, form: str) -> str:
    return text.upper() if form.startswith("upper") or form.endswith("Upper") else text


def _repeated(value: int, letters: str) -> str:
    """Word goes on after z with aa, bb, cc."""
    rounds, place = divmod(value - 1, len(letters))
    return letters[place] * min(rounds + 1, 30)


def _ordinal_ending(value: int) -> str:
    if value % 100 in {11, 12, 13}:
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")


def _cardinal(value: int) -> str:
    if value < len(_ONES):
        return _ONES[value]
    if value < 100:
        tens, ones = divmod(value, 10)
        return _TENS[tens] + (f"-{_ONES[ones]}" if ones else "")
    if value < 1000:
        hundreds, rest = divmod(value, 100)
        return f"{_ONES[hundreds]} hundred" + (f" {_cardinal(rest)}" if rest else "")
    return str(value)


def _ordinal_text(value: int) -> str:
    if value >= 1000:
        return f"{value}{_ordinal_ending(value)}"
    words = _cardinal(value)
    last = words.replace("-", " ").rpartition(" ")[2]
    ordinal = _ORDINALS.get(last) or (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")
    return words.removesuffix(last) + ordinal


def _han(value: int) -> str:
    if value >= 100:
        return "".join(_HAN[int(digit)] for digit in str(value))
    tens, ones = divmod(value, 10)
    written = ("" if tens == 1 else _HAN[tens]) + "十" if tens else ""
    return written + (_HAN[ones] if ones else "")
