"""Was the run worth it: the answer in words, from the tests and not from the eye."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xalign_dist.evaluation.metrics import ALL, lower_is_better
from xalign_dist.reporting import formats
from xalign_dist.reporting.differences import Difference
from xalign_dist.reporting.names import INFONCE, INITIAL, against_label, is_share, task_label
from xalign_dist.reporting.results import Results, find_differences, headline_task


@dataclass(frozen=True, slots=True)
class Claim:
    """One comparison of the headline.

    Attributes:
        title: what is compared, for a person.
        before, after: values of the baseline and of our model.
        gain: positive is better; interval and corrected p None where not tested.
        verdict: ``better``, ``worse``, ``same``, or ``untested``.
        share: whether values are shares.
    """

    title: str
    before: float
    after: float
    gain: float
    low: float | None
    high: float | None
    p: float | None
    verdict: str
    share: bool
    key: str
    baseline: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """``tone``: ``good``, ``mixed``, ``bad`` or ``unknown``; ``headline`` and ``sentence`` in words."""

    tone: str
    headline: str
    sentence: str
    claims: list[Claim]


_UNKNOWN = Verdict(
    "unknown",
    "Not measured yet",
    "There are no results of this run's model beside a baseline, so nothing can be said about its worth.",
    [],
)


def judge(results: Results, differences: Sequence[Difference]) -> Verdict:
    """The verdict on pooled retrieval (all languages in one pool) and on low-resource languages.

    It says better or worse only where the corrected p-value is under 0.05.
    """
    row, ours = headline_task(results), results.ours
    if row is None or ours is None:
        return _UNKNOWN
    wanted = [(INITIAL, ALL), (INFONCE, ALL), (INFONCE, "low")]
    if ours in (INITIAL, INFONCE):
        return _UNKNOWN
    found = [_claim(results, differences, row, ours, baseline, key) for baseline, key in wanted]
    claims = [c for c in found if c is not None]
    if not claims:
        return _UNKNOWN
    tone, headline = _headline({(c.baseline, c.key): c.verdict for c in claims})
    return Verdict(tone, headline, _sentence(claims, row), claims)


def _claim(
    results: Results,
    differences: Sequence[Difference],
    row: tuple[str, str],
    ours: str,
    baseline: str,
    key: str,
) -> Claim | None:
    task, metric = row
    one, two = results.point(ours, task, metric, key), results.point(baseline, task, metric, key)
    if one is None or two is None:
        return None
    title = f"{_GROUP[key]} {against_label(baseline)}"
    tested = [d for d in find_differences(differences, task, metric, key, baseline) if d.ours == ours]
    share = is_share(task)
    if tested and tested[0].corrected is not None:
        d = tested[0]
        low, high = d.gain_interval or (None, None)
        return Claim(
            title, two.value, one.value, d.gain, low, high, d.corrected, d.verdict, share, key, baseline
        )
    gain = (one.value - two.value) * (-1 if lower_is_better(task, metric) else 1)
    return Claim(title, two.value, one.value, gain, None, None, None, "untested", share, key, baseline)


_GROUP = {ALL: "All languages", "low": "Low-resource"}


def _headline(by_claim: dict[tuple[str, str], str]) -> tuple[str, str]:
    """Tone and headline from the verdicts of the claims that could be made."""
    training = by_claim.get((INITIAL, ALL))
    method = by_claim.get((INFONCE, ALL))
    low = by_claim.get((INFONCE, "low"))
    if "worse" in by_claim.values():
        if training == "worse":
            return "bad", "No: training made the encoder worse"
        where = "overall" if method == "worse" else "on low-resource languages"
        return "bad", f"No: fixed InfoNCE is better {where}"
    if "better" not in by_claim.values():
        if "same" in by_claim.values():
            return "mixed", "Not shown: the differences are within chance"
        return "unknown", "Not tested: differences without a significance test"
    if method == "better" and training in ("better", None):
        extra = ", low-resource languages included" if low == "better" else ""
        return "good", f"Yes: adaptive training paid{extra}"
    if low == "better":
        return "good", "Yes, for low-resource languages: adaptive training paid there"
    if method is None and low is None:
        return "good", "Training paid; there is no fixed InfoNCE arm to compare with"
    return "mixed", "Training paid; the adaptive part is not shown to add to it"


def _sentence(claims: Sequence[Claim], row: tuple[str, str]) -> str:
    """The claims in one breath; intervals and p-values stand beside it."""
    by_key = {(c.baseline, c.key): c for c in claims}
    training, method = by_key.get((INITIAL, ALL)), by_key.get((INFONCE, ALL))
    low = by_key.get((INFONCE, "low"))
    parts = []
    if training is not None:
        parts.append(
            f"{task_label(*row)} went from {_value(training.before, training)} before training"
            f" to {_value(training.after, training)}"
        )
        if method is not None:
            parts.append(f"; fixed InfoNCE on the same data reached {_value(method.before, method)}")
    elif method is not None:
        parts.append(
            f"{task_label(*row)} is {_value(method.after, method)},"
            f" with fixed InfoNCE {_value(method.before, method)}"
        )
    if low is not None:
        start = ". On low-resource languages it is" if parts else f"{task_label(*row)} on low-resource is"
        parts.append(f"{start} {_value(low.after, low)} against {_value(low.before, low)}")
    return "".join(parts) + "."


def _value(number: float, claim: Claim) -> str:
    return formats.value(number, claim.share) + ("\u00a0%" if claim.share else "")
