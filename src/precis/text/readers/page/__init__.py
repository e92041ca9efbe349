"""From the glyphs of a PDF page to its text: lines, tables, columns, running heads, broken words."""
