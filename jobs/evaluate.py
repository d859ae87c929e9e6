"""Job: measure models side by side on a suite.

`python -m jobs.evaluate --model M --suite SUITE.yaml --out metrics.json`
"""

from jobs.entry import start

if __name__ == "__main__":
    start("evaluate")
