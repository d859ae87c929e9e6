"""Job: normalise and filter corpora, keeping every reject with its reason.

`python -m jobs.clean CONFIG --out DIR`
"""

from jobs.entry import start

if __name__ == "__main__":
    start("clean")
