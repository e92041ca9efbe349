"""Characters that Word keeps as places in a symbol font: ±, ≤, µ, a ticked box."""

from __future__ import annotations

# The font Symbol, from its place 0x21 on; what Unicode has no own character for is a space.
_SYMBOL = dict(
    zip(
        range(0x21, 0x7F),
        "!∀#∃%&∋()∗+,−./0123456789:;<=>?≅ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_‾αβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}∼",
        strict=True,
    )
) | dict(
    zip(
        range(0xA0, 0xFF),
        "€ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…⏐⎯↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓◊〈®©™∑⎛⎜⎝⎡⎢⎣⎧⎨⎩⎪ 〉∫⌠⎮⌡⎞⎟⎠⎤⎥⎦⎫⎬⎭",
        strict=True,
    )
)
_WINGDINGS = {
    **{0x6C: "●", 0x6E: "■", 0x6F: "□", 0x71: "❑", 0xA7: "▪", 0xA8: "☐", 0xFB: "✗", 0xFC: "✓"},
    **{0xFD: "☒", 0xFE: "☑", 0xE0: "→", 0xDF: "←", 0xE1: "↑", 0xE2: "↓", 0xF0: "⇨", 0x4A: "☺", 0x28: "☎"},
}
_FONTS = {"symbol": _SYMBOL, "wingdings": _WINGDINGS}


def in_symbol_font(text: str, font: str) -> str:
    """Return text as its font shows it; unchanged where the font is an ordinary one."""
    table = _FONTS.get(font.casefold())
    if table is None:
        return text
    # Word keeps such characters in a private area as well as where ASCII is.
    return "".join(
        table.get(ord(sign) - 0xF000 if 0xF000 <= ord(sign) <= 0xF0FF else ord(sign), sign) for sign in text
    )
