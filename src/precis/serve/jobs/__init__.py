"""Compiling uploaded documents, one after another, in a process of their own."""
