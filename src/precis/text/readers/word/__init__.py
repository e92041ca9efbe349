"""WordprocessingML, as Word shows it: the package, styles, numbers of clauses, notes, equations, tables."""
