"""Filter names. A new filter is one function and one line here."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from xalign_dist.cleaning.filters import Columns, Verdicts, empty, identical, length, ratio
from xalign_dist.cleaning.language import language
from xalign_dist.config import CleaningConfig
from xalign_dist.errors import ConfigError

Filter = Callable[[Columns, CleaningConfig], Verdicts]

ROW_FILTERS: dict[str, Filter] = {
    "empty": empty,
    "length": length,
    "ratio": ratio,
    "identical": identical,
    "language": language,
}
STATEFUL = ("exact_duplicate", "near_duplicate")


def row_filters(cfg: CleaningConfig) -> list[tuple[str, Filter]]:
    """The configured filters that look at one row alone, in order.

    Raises:
        ConfigError: unknown name, with the nearest one.
    """
    for name in cfg.filters:
        if name not in ROW_FILTERS and name not in STATEFUL:
            known = [*ROW_FILTERS, *STATEFUL]
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
            raise ConfigError(
                f"cleaning.filters: no filter {name!r}",
                f"did you mean {near[0]}?" if near else f"use some of {', '.join(known)}",
            )
    return [(n, ROW_FILTERS[n]) for n in cfg.filters if n in ROW_FILTERS]
