"""Documents as text: reading files, cutting them into sentences and passages, and finding passages."""
