"""YAML and dotted overrides in, a validated :class:`RunConfig` out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from xalign_dist.config.run import RunConfig
from xalign_dist.errors import ConfigError


def load_config(path: str | Path | None, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a YAML file, apply ``section.key=value`` overrides, validate.

    Raises:
        ConfigError: unreadable file, unknown key (with the nearest name), bad value.
    """
    data: dict[str, Any] = {} if path is None else read_yaml(path)
    for item in overrides:
        apply_override(data, item)
    return parse_config(data, origin=str(path) if path else "command line")


def parse_config(data: Mapping[str, Any], origin: str = "config") -> RunConfig:
    """Validate a plain mapping; ``origin`` names it in errors."""
    try:
        return RunConfig.model_validate(data)
    except ValidationError as err:
        raise _explain(err, origin) from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML mapping from a file, by the safe loader only."""
    try:
        text = Path(path).read_text("utf-8")
        data = yaml.safe_load(text)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file", "check the path of the config") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        raise ConfigError(f"{path}: not readable as YAML ({err})", "mend the file") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: holds {type(data).__name__}, not a mapping", "write `key: value` lines")
    return data


def apply_override(data: dict[str, Any], item: str) -> None:
    """Set ``a.b=value`` in ``data``; list items by index; the value is read as YAML."""
    key, sep, raw = item.partition("=")
    if not sep or not key:
        raise ConfigError(f"override {item!r} is not key=value", "write section.key=value")
    try:
        value = yaml.safe_load(raw)
    except yaml.YAMLError as err:
        raise ConfigError(f"override {item!r}: value is not YAML ({err})", "quote the value") from None
    node: Any = data
    *parents, last = key.split(".")
    for part in parents:
        node = _child(node, part, item)
    if isinstance(node, list):
        node[_index(node, last, item)] = value
    else:
        node[last] = value


def _child(node: Any, part: str, item: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, part, item)]
    child = node.setdefault(part, {})
    if child is None:
        child = node[part] = {}
    if not isinstance(child, dict | list):
        raise ConfigError(f"override {item!r}: {part} is a value, not a section", "check the key")
    return child


def _index(node: list[Any], part: str, item: str) -> int:
    if not part.isdigit() or int(part) >= len(node):
        raise ConfigError(
            f"override {item!r}: {part!r} is no index of a list of {len(node)}", "use 0, 1, ..."
        )
    return int(part)


def dump_config(config: RunConfig) -> str:
    """The resolved config as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _explain(err: ValidationError, origin: str) -> ConfigError:
    lines, remedies = [], []
    for fault in err.errors():
        where = ".".join(str(p) for p in fault["loc"]) or "config"
        if fault["type"] == "extra_forbidden":
            lines.append(f"{origin}: unknown setting {where}")
            remedies.append(_nearest(fault["loc"]))
        else:
            lines.append(f"{origin}: {where}: {fault['msg']} (got {_shown(fault.get('input'))!r})")
            remedies.append(f"change {where}")
    return ConfigError("\n".join(lines), "; ".join(dict.fromkeys(remedies)) + " (`xalign schema` lists all)")


def _shown(value: Any) -> str:
    """The start of a value, without the name and password of a URI."""
    return re.sub(r"://[^/@\s]*@", "://***@", str(value))[:60]


def _nearest(loc: tuple[int | str, ...]) -> str:
    names = _fields_at(RunConfig, loc[:-1])
    near = difflib.get_close_matches(str(loc[-1]), names, n=1, cutoff=0.4)
    return f"did you mean {near[0]}?" if near else f"use one of: {', '.join(names)}"


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    for part in loc:
        if isinstance(part, int):
            continue
        kind: Any = model.model_fields[part].annotation
        model = next(
            (a for a in (kind, *get_args(kind)) if isinstance(a, type) and issubclass(a, BaseModel)), model
        )
    return list(model.model_fields)
