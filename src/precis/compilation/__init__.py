"""Compiling a document into σ: self-study, teacher, warm start, training."""
