"""Job: search settings with Ray Tune.

`python -m jobs.sweep CONFIG SPACE.yaml [section.key=value ...] --out DIR`
"""

from jobs.entry import start

if __name__ == "__main__":
    start("sweep")
