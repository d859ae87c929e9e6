"""Job: find translations in two piles of sentences.

`python -m jobs.mine --model M --source A --target B --out DIR`
"""

from jobs.entry import start

if __name__ == "__main__":
    start("mine")
