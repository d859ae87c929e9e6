"""Training seeds as a level of their own: differences of means over seeds, with what few seeds leave open."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xalign_dist.errors import DataError
from xalign_dist.evaluation.scores import Float64, ItemScores
from xalign_dist.evaluation.significance import (
    bootstrap_draws,
    cluster_tables,
    mean_metric,
    percentile_interval,
    same_items,
    two_sided_p,
)


def crossed_bootstrap(
    ours: Sequence[Sequence[ItemScores]],
    theirs: Sequence[Sequence[ItemScores]],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, float, float]:
    """Difference over several training seeds: seeds and items are both resampled.

    Every seed is tested on the same items, so the two levels cross: each resample draws clusters
    and, apart from that, what the seeds add (after Owen 2007, the pigeonhole bootstrap). To draw
    from three seeds themselves would tell a spread that is known as badly as from three values as
    if it were known well; the seeds' part has Student's distribution with S - 1 degrees of freedom
    instead, whose interval is that of the t test where items add nothing. One seed leaves only the
    items' level. p is two-sided, from the draws centred on the observed difference.

    Args:
        ours: for each seed, one :class:`ItemScores` per language pair.
        theirs: the same for the baseline, paired seed by seed (a model without training: repeated).
        resamples: bootstrap resamples.
        confidence: coverage.
        seed: of the resampling.

    Returns:
        (difference, low, high, p).

    Raises:
        DataError: seeds or clusters do not match.
    """
    observed_2, draws_B2 = crossed_draws([ours, theirs], resamples=resamples, seed=seed)
    difference = float(observed_2[0] - observed_2[1])
    draws_B = draws_B2[:, 0] - draws_B2[:, 1]
    return difference, *percentile_interval(draws_B, confidence), two_sided_p(draws_B, difference)


def crossed_draws(
    arms: Sequence[Sequence[Sequence[ItemScores]]], *, resamples: int = 1000, seed: int = 0, stream: int = 0
) -> tuple[Float64, Float64]:
    """Means of several models under the same draws of seeds and items (:func:`crossed_bootstrap`).

    For what is no plain difference, such as a ratio of gains.

    Args:
        arms: for each model its seeds, for each seed one :class:`ItemScores` per language pair.
        resamples: bootstrap resamples.
        seed: of the resampling.
        stream: of the items' draws: tasks of different items take different ones, and share the
            draws of training seeds.

    Returns:
        The observed means float64 ``[A]`` and the draws float64 ``[B, A]``.

    Raises:
        DataError: the models do not have the same seeds or clusters.
    """
    if len({len(arm) for arm in arms}) != 1 or not arms[0]:
        counts = " seeds against ".join(str(len(arm)) for arm in arms)
        raise DataError(counts, "give all models the same seeds")
    first, reduce, seeds = arms[0][0], arms[0][0][0].reduce, len(arms[0])
    if not all(same_items(first, parts) for arm in arms for parts in arm):
        raise DataError("models or seeds were not measured on the same items", "evaluate all on one suite")
    tables = [cluster_tables(arm[s]) for s in range(seeds) for arm in arms]
    values_SA = np.reshape([mean_metric(t.sum(axis=0), reduce) for t in tables], (seeds, len(arms)))
    draws_BSA = bootstrap_draws(tables, reduce, resamples, seed + stream).reshape(resamples, seeds, len(arms))
    centre_BA = draws_BSA.mean(axis=1)
    seed_part_BA = _seed_part(draws_BSA - centre_BA[:, None, :], seed)
    return values_SA.mean(axis=0), centre_BA + seed_part_BA


def _seed_part(apart_BSA: Float64, seed: int) -> Float64:
    """What the draw of the seeds adds to the mean of each model: multivariate t, S - 1 degrees of freedom.

    Args:
        apart_BSA: each seed's deviation from the mean over seeds, for each resample of the items.
        seed: of the draws, which are the same for all models and tasks.

    Returns:
        float64 ``[B, A]``, of scale sd / sqrt(S); zeros for one seed.
    """
    resamples, seeds, _ = apart_BSA.shape
    if seeds < 2:
        return np.zeros((resamples, apart_BSA.shape[2]))
    # The third number: no slice of item draws has this stream.
    rng = np.random.default_rng([seed, 0, 1])
    # Deviations times independent normals have the seeds' covariance times S - 1.
    weights_BS = rng.normal(size=(resamples, seeds)) / np.sqrt(seeds * (seeds - 1))
    tails_B = np.sqrt((seeds - 1) / rng.chisquare(seeds - 1, size=resamples))
    return np.asarray(np.einsum("bsa,bs,b->ba", apart_BSA, weights_BS, tails_B))
