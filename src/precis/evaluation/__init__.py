"""Examining σ and the methods that it is compared with, and reporting what came out."""
