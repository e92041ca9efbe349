"""Compiled documents as models behind the API that OpenAI's clients speak."""
