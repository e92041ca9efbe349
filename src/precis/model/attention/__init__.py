"""Attention of many short rows over one long prefix that they share."""
