"""The measurements of `attnflow bench`, each on the user's own machine.

`runner` prints the tables of the maximum flow, and `section` defines what a table is made of. The
other files each hold a few of its sections or what they measure with. Nothing here is imported
before the command runs, and nothing here fails on time.
"""

SECTIONS = ("clarabel", "igraph", "model", "batch", "growth", "memory", "gpu")
