"""How long threads that compute together wait for one another awake."""

# Threads that spin for long while they wait take the cores from whatever else wants them: on two, a pass is
# then ten times slower beside another program, against a fifth at most where all is quiet. Threads that do
# not spin at all take twice as long there. OpenMP reads this when PyTorch is loaded, not later.
GIVING_WAY = {"GOMP_SPINCOUNT": "1000"}
