#!/bin/sh
# The whole path on a real model: compile a document, compare, ask. Run by `make quickstart`.
set -eu
cd "$(dirname "$0")"
document=tern-harbour.md
compiled=../tern-harbour.precis

say() { printf '\n\033[1m%s\033[0m\n' "$1"; }

say "1. Compile $document into a soft prompt a twentieth of its length (7 minutes at most)"
precis compile "$document" -o "$compiled" --minutes 7

say "2. Count right answers to 48 questions that it was not trained on"
precis evaluate "$compiled" --document "$document" --questions tern-harbour.questions.jsonl --show 3

say "3. Ask it yourself"
echo 'Activate the environment with ". .venv/bin/activate", then:'
echo '    precis ask tern-harbour.precis "On which VHF channel does the harbour office listen?"'
precis ask "$compiled" "On which VHF channel does the harbour office listen?"
precis ask "$compiled" "Who is the harbour master?"
precis ask "$compiled" "How long does the ferry crossing take?"
