"""One row of a table of paired tests, as comparisons.json and ablation.json hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xalign_dist.errors import DataError
from xalign_dist.evaluation.metrics import lower_is_better
from xalign_dist.reporting.names import ADAPTIVE, is_share

LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Difference:
    """Our model minus a baseline on one row.

    ``difference``, ``low``, ``high`` as measured; :attr:`gain` turns errors round so that more is
    always better. ``lang`` is ``src-tgt``, or ``all``, ``high``, ``low``.
    """

    task: str
    metric: str
    lang: str
    ours: str
    baseline: str
    difference: float
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    n: int
    note: str = ""
    ours_value: float | None = None
    baseline_value: float | None = None

    @staticmethod
    def from_json(row: Mapping[str, Any], where: str) -> Difference:
        """Read a row of either form.

        ``ours`` and ``baseline`` are the models' names; or, as
        :meth:`~xalign_dist.evaluation.compare.Comparison.to_json` writes it, their values, and the
        names are ``model`` and ``against``.

        Raises:
            DataError: a field is missing or of another type; ``where`` names the row.
        """
        try:
            ours, baseline = row["ours"], row["baseline"]
            named = isinstance(ours, str)
            return Difference(
                task=str(row["task"]),
                metric=str(row["metric"]),
                lang=str(row["lang"]),
                ours=ours if named else str(row.get("model", ADAPTIVE)),
                baseline=str(baseline) if named else str(row["against"]),
                difference=float(row["difference"]),
                low=_number(row.get("low")),
                high=_number(row.get("high")),
                p=_number(row.get("p")),
                p_holm=_number(row.get("p_holm")),
                n=int(row.get("n") or 0),
                note=str(row.get("note") or ""),
                ours_value=_number(row.get("ours_value")) if named else float(ours),
                baseline_value=_number(row.get("baseline_value")) if named else float(baseline),
            )
        except (KeyError, TypeError, ValueError) as err:
            raise DataError(f"{where}: {type(err).__name__} {err}", "run `xalign evaluate` again") from err

    @property
    def share(self) -> bool:
        """Whether it is a difference of shares (shown in percentage points)."""
        return is_share(self.task)

    @property
    def gain(self) -> float:
        """The difference, errors turned round: positive is better."""
        return -self.difference if lower_is_better(self.task, self.metric) else self.difference

    @property
    def gain_interval(self) -> tuple[float, float] | None:
        """Interval of :attr:`gain`, None where none was computed."""
        if self.low is None or self.high is None:
            return None
        if lower_is_better(self.task, self.metric):
            return -self.high, -self.low
        return self.low, self.high

    @property
    def corrected(self) -> float | None:
        """The corrected p-value, else the plain one, None where no test was made."""
        return self.p if self.p_holm is None else self.p_holm

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value is under 0.05."""
        return self.corrected is not None and self.corrected < LEVEL

    @property
    def verdict(self) -> str:
        """``better``, ``worse``, or ``same`` where chance explains it."""
        if not self.significant or self.gain == 0:
            return "same"
        return "better" if self.gain > 0 else "worse"


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
