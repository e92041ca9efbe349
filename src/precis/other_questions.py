"""Questions about other texts than the document: what confidence is taught to doubt."""

from __future__ import annotations

import random

# Plain questions of the kind that people ask, about things that few documents have in common.
_QUESTIONS = """
Who painted the ceiling of the old chapel?
How many moons does the seventh planet have?
When was the suspension bridge opened to traffic?
What is the boiling point of the solvent?
Where do the penguins raise their chicks?
Why did the senate reject the treaty?
Which instrument did the composer play as a child?
How long does the dough have to rest?
What was the name of the explorer's ship?
Who won the final in extra time?
How much does the annual licence cost?
When does the second shift begin at the mill?
What caused the engine to overheat?
Where was the manuscript discovered?
How tall is the tallest tree in the forest?
Which vitamin is missing from this diet?
Who succeeded the king after his abdication?
What is the population of the capital?
How often should the filter be replaced?
When did the volcano last erupt?
Why do the leaves turn red in autumn?
What does the warning light on the dashboard mean?
Who is responsible for approving the budget?
How many votes were cast against the motion?
Where can the tickets for the concert be bought?
What colour is the uniform of the guards?
Which language is spoken in the valley?
How far is the airport from the city centre?
When must the tax return be submitted?
What did the witness see from the window?
Who invented the sewing machine?
How many pages does the novel have?
What is the dosage for children under six?
Where is the emergency exit on the second floor?
Why was the experiment repeated in the spring?
Which team finished last in the league?
What is the maximum weight of the luggage?
When was the cathedral rebuilt after the fire?
Who wrote the libretto of the opera?
How deep is the lake at its deepest point?
What happens if the password is forgotten?
Where did the two brothers bury the gold?
How many bones are there in the human hand?
Which chemical element has the symbol W?
What was the verdict of the jury?
Who discovered the comet with a home telescope?
How long is the warranty of the washing machine?
When does the monsoon reach the coast?
"""


def other_questions(count: int, seed: int = 0) -> list[str]:
    """Draw some of the questions."""
    questions = _QUESTIONS.strip().split("\n")
    return random.Random(seed).sample(questions, min(count, len(questions)))
