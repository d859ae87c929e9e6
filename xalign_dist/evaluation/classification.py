"""Zero-shot classification: a linear classifier trained on one language, used on others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from xalign_dist.errors import DataError
from xalign_dist.evaluation.scores import Float64
from xalign_dist.evaluation.vectors import unit_rows
from xalign_dist.records import Float32

Labels = npt.NDArray[np.str_]

STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)


class ZeroShotClassifier:
    """Logistic regression on unit vectors, its strength chosen on the training language's dev set.

    Nothing of the other languages is seen, in training or in the choice.

    Args:
        train_ND: vectors of the training language.
        train_labels: their classes.
        dev_MD: vectors of the same language for the choice of C. None: a fifth of the training
            rows, stratified, is used for the choice; the fit takes all.
        dev_labels: their classes.
        seed: of that split.

    Attributes:
        strength: the C chosen; the smallest (strongest regularisation) among equals.

    Raises:
        DataError: fewer than two classes.
    """

    def __init__(
        self,
        train_ND: Float32,
        train_labels: Sequence[str],
        dev_MD: Float32 | None = None,
        dev_labels: Sequence[str] | None = None,
        *,
        seed: int = 0,
    ) -> None:
        self._x = unit_rows(train_ND, "training texts")
        self._y = np.asarray(train_labels, np.str_)
        if len(np.unique(self._y)) < 2:
            raise DataError("classification with fewer than two classes", "give training rows of two or more")
        if dev_MD is None or dev_labels is None:
            x_fit, x_dev, y_fit, y_dev = _split(self._x, self._y, seed)
        else:
            x_fit, y_fit = self._x, self._y
            x_dev, y_dev = unit_rows(dev_MD, "dev texts"), np.asarray(dev_labels, np.str_)
        quality = [float((_fit(x_fit, y_fit, c).predict(x_dev) == y_dev).mean()) for c in STRENGTHS]
        self.strength = STRENGTHS[int(np.argmax(quality))]
        self._model = _fit(self._x, self._y, self.strength)

    def hits(self, rows_ND: Float32, labels: Sequence[str]) -> Float64:
        """1 where the predicted class is right, else 0, float64 ``[N]``."""
        return _hits(self._model, unit_rows(rows_ND, "test texts"), labels)

    def few_shot(self, extra_ND: Float32, extra_labels: Sequence[str], shots: int, seed: int) -> FewShot:
        """The classifier refitted with ``shots`` examples per class of another language.

        Raises:
            DataError: a class has fewer examples than ``shots``.
        """
        y = np.asarray(extra_labels, np.str_)
        rng = np.random.default_rng(seed)
        picked: list[int] = []
        for label in np.unique(self._y):
            rows = np.flatnonzero(y == label)
            if len(rows) < shots:
                raise DataError(
                    f"class {label!r} has {len(rows)} training examples, {shots} shots are asked for",
                    "lower shots, or give more training rows in this language",
                )
            picked += rng.permutation(rows)[:shots].tolist()
        x = np.concatenate([self._x, unit_rows(extra_ND, "few-shot texts")[picked]])
        # The few count as much as the many, or they would change nothing.
        weight = np.concatenate([np.ones(len(self._y)), np.full(len(picked), len(self._y) / len(picked))])
        return FewShot(_fit(x, np.concatenate([self._y, y[picked]]), self.strength, weight))


class FewShot:
    """A classifier that has seen some examples of its test language."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def hits(self, rows_ND: Float32, labels: Sequence[str]) -> Float64:
        """1 where the predicted class is right, else 0, float64 ``[N]``."""
        return _hits(self._model, unit_rows(rows_ND, "test texts"), labels)


def _fit(x_ND: Float32, y: Labels, c: float, weight: Float64 | None = None) -> Any:
    # Threads cost more than they bring at this size: 24 s on two busy cores, 0.3 s on one thread.
    with threadpool_limits(1):
        return LogisticRegression(C=c, max_iter=2000).fit(x_ND, y, sample_weight=weight)


def _hits(model: Any, rows_ND: Float32, labels: Sequence[str]) -> Float64:
    return np.asarray(model.predict(rows_ND) == np.asarray(labels, np.str_), dtype=np.float64)


def _split(x_ND: Float32, y: Labels, seed: int) -> tuple[Float32, Float32, Labels, Labels]:
    _, counts = np.unique(y, return_counts=True)
    classes = len(counts)
    possible = counts.min() >= 2 and len(y) >= 5 * classes
    size = max(classes, round(len(y) / 5))
    a, b, c, d = train_test_split(
        x_ND, y, test_size=size, random_state=seed, stratify=y if possible else None
    )
    return a, b, c, d
