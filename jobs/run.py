"""Job: clean, score, mine, train, evaluate and report.

`python -m jobs.run CONFIG [section.key=value ...] --out RUN`
"""

from jobs.entry import start

if __name__ == "__main__":
    start("run")
