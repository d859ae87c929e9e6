"""Job: how clean is each parallel pair.

`python -m jobs.score --model M --pairs FILE --out DIR`
"""

from jobs.entry import start

if __name__ == "__main__":
    start("score")
