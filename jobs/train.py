"""Job: train an encoder on weighted pairs.

`python -m jobs.train CONFIG --pairs FILE --out DIR`
"""

from jobs.entry import start

if __name__ == "__main__":
    start("train")
