"""Job: embed sentences.

`python -m jobs.encode --model M --input FILE --out DIR`
"""

from jobs.entry import start

if __name__ == "__main__":
    start("encode")
