"""Settings of scoring, mining, rounds and evaluation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from xalign_dist.config.base import Section


class ScoringConfig(Section):
    """Confidence of parallel pairs by decoys (docs/method.md)."""

    reference: str = Field("builtin:e5-small", description="Encoder that scores and whose structure is kept.")
    neighbours: int = Field(4, ge=1, description="K of the margin.")
    decoys_per_pair: int = Field(5, ge=1, description="Random mismatches per pair for the null.")
    near_misses: int = Field(
        1000, ge=0, description="Pairs of a group of which near misses are made (partial text); 0: none."
    )
    bins: int = Field(40, ge=10, description="Quantile bins of the local false discovery rate.")
    min_pairs: int = Field(
        100, ge=10, description="Fewer pairs in a group: unstable, the prior is used and reported."
    )
    prior_noise: float = Field(0.2, ge=0, le=1, description="Noise rate assumed where unstable.")
    block_rows: int = Field(
        8192, ge=64, description="Pairs of a group, sampled, that are neighbours and decoys of all its pairs."
    )


class MiningConfig(Section):
    """Pseudo-labels from two monolingual sides (docs/method.md)."""

    neighbours: int = Field(16, ge=2, description="K of the search and of the margin.")
    shards: int | None = Field(None, ge=1, description="Index shards. None: from the cluster's size.")
    index: Literal["auto", "flat", "ivf", "hnsw", "ivfpq"] = Field(
        "auto", description="auto: by size, dimension, memory and recall."
    )
    recall: float = Field(
        1.0, gt=0, le=1, description="recall@K asked of the index, measured on a sample; 1: exact."
    )
    second_view: Literal["none", "layer"] = Field(
        "layer", description="Other view that is asked for the partner: none, or an earlier layer."
    )
    view_layer: int = Field(-4, le=-1, description="Layer of the second view, from the last (-1).")
    min_confidence: float = Field(0.5, ge=0, lt=1, description="Pseudo-labels below do not enter.")
    ledger_smoothing: float = Field(
        0.5, ge=0, lt=1, description="Reliability over rounds: weight of the past."
    )
    max_iterations: int = Field(12, ge=1, description="Of the masked-match null; stops when stable.")


class RoundsConfig(Section):
    """Alternation of mining and training."""

    count: int = Field(2, ge=1, description="Rounds of mining and training.")
    takeover: bool = Field(
        True, description="The trained encoder mines once its dev score passes the reference's."
    )


class EvaluationConfig(Section):
    """What is measured at the end."""

    suite: str | None = Field(None, description="Suite YAML. None: held-out pairs of the run itself.")
    dev_pairs: str | None = Field(
        None, description="Parquet of pairs for choices in the run. None: held out from the corpora."
    )
    bootstrap: int = Field(1000, ge=100, description="Resamples behind each interval.")
    permutations: int = Field(2000, ge=100, description="Of the paired permutation test.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Width of intervals.")
    baselines: list[Literal["initial", "infonce", "static", "ppmi"]] = Field(
        default=["initial", "infonce", "static"],
        description="Arms beside ours. static: rows of the encoder's embedding matrix; ppmi: word vectors"
        " of the corpus itself; both rotated onto English.",
    )
    projection_points: int = Field(600, ge=0, description="Sentences in the 2-D picture; 0: none.")


class RuntimeConfig(Section):
    """Ray, at the edge."""

    address: str | None = Field(None, description="Ray cluster. None: embedded in this process.")
    train_workers: int | None = Field(None, ge=0, description="None: one per GPU, one without GPU.")
    train_workers_max: int | None = Field(None, ge=1, description="Elastic upper bound. None: fixed.")
    gpus_per_worker: float | None = Field(None, ge=0, description="None: 1 if the cluster has GPUs.")
    embed_actors: int | None = Field(None, ge=1, description="None: one per GPU, one per 8 CPUs without.")
    embed_batch: int = Field(64, ge=1, description="Texts encoded at once.")
    min_cpus: int = Field(
        1, ge=1, description="CPUs that a stage waits for where an autoscaler adds nodes on demand."
    )
    max_failures: int = Field(2, ge=0, description="Restarts of a failed training run.")
    node_labels: dict[str, str] = Field(
        default_factory=dict, description="Labels of the nodes that train, see cluster/."
    )
    scratch: str | None = Field(
        None,
        description="Folder for the local copy of a run whose --out is a URI; on a cluster one that every "
        "node sees. None: the user's cache.",
    )
    storage_retries: int = Field(5, ge=0, description="Attempts at a failing object store.")
    progress: bool = Field(True, description="Live progress on the console.")
