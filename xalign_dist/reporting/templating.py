"""The template environment: everything escaped, an unknown name is an error."""

from __future__ import annotations

from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from xalign_dist.reporting import formats
from xalign_dist.reporting.names import (
    against_label,
    group_label,
    language_name,
    model_label,
    model_style,
    task_label,
)


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The templates: everything escaped, an unknown name is an error."""
    env = Environment(
        loader=PackageLoader("xalign_dist.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("percent", "decimal", "signed", "value", "interval", "p_value", "count", "seconds"):
        env.filters[name] = getattr(formats, name)
    env.filters["language"] = language_name
    env.globals.update(
        task_label=task_label, model_label=model_label, group_label=group_label, against_label=against_label
    )
    env.globals["style"] = model_style
    return env
