"""Job: run with each component left out, and compare.

`python -m jobs.ablate CONFIG [section.key=value ...] --out DIR`
"""

from jobs.entry import start

if __name__ == "__main__":
    start("ablate")
