"""From the name of a model to a local directory: builtin, directory, URI, or hub id."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from pathlib import Path
from typing import Any

import fsspec

from xalign_dist.encoder.builtin import PREFIX, builtin_directory, cache_root
from xalign_dist.errors import DependencyError, ModelError

_OTHERS = "or use builtin:e5-small, which needs no network"
#: What is fetched from the hub: settings, tokenizer and safetensors; never pickles or code.
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
_STAMPS = ("size", "ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created")


def local_directory(spec: str) -> Path:
    """The directory that holds the model ``spec``, fetched or converted first if need be.

    Raises:
        ModelError: there is no such model, or the hub cannot be reached.
        DependencyError: a package for it is missing.
        OutputError: the cache cannot be written.
    """
    if spec.startswith(PREFIX):
        return builtin_directory()
    if spec.startswith("file://"):
        spec = spec.removeprefix("file://")
    elif "://" in spec:
        return _fetch(spec)
    path = Path(spec).expanduser()
    if spec and path.is_dir():
        return path
    if spec and path.exists():
        raise ModelError(f"{spec}: is a file, not a model directory", "give the directory that holds it")
    if path.is_absolute() or spec.startswith((".", "~")) or not spec or spec.count("/") > 1:
        raise ModelError(f"{spec!r}: no such directory", f"check the path, {_OTHERS}")
    return _from_hub(spec)


def _from_hub(spec: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    try:
        return Path(snapshot_download(spec, allow_patterns=_HUB_FILES))
    except (OSError, HfHubHTTPError, HFValidationError) as err:
        reason = str(err).strip().splitlines()[0]
        raise ModelError(
            f"{spec}: no such directory, and not to be had from the Hugging Face hub ({reason})",
            f"check the name and the network, give a local directory, {_OTHERS}",
        ) from err


def _fetch(uri: str) -> Path:
    """Copy a model from any fsspec file system into the cache; a changed model is fetched again."""
    try:
        fs, root = fsspec.core.url_to_fs(uri)
        files: dict[str, Any] = fs.find(root, detail=True)
    except ImportError as err:
        raise DependencyError(f"{uri}: {err}", "install the fsspec driver of this scheme") from None
    except (OSError, ValueError) as err:
        raise ModelError(f"{uri}: cannot be read ({err})", "check the URI and the credentials") from err
    if not files:
        raise ModelError(f"{uri}: no such model", "check the URI")
    stamps = [uri, *(f"{name} {[info.get(k) for k in _STAMPS]}" for name, info in sorted(files.items()))]
    digest = hashlib.sha256("\n".join(stamps).encode()).hexdigest()[:16]
    home = cache_root() / f"remote-{digest}"
    if home.exists():
        return home
    aside = home.with_name(f".{home.name}.{uuid.uuid4().hex}")
    try:
        for name in files:
            target = aside / name.removeprefix(root).lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            fs.get_file(name, str(target))
        aside.rename(home)
    except OSError as err:
        if not home.exists():  # else another process was first
            raise ModelError(
                f"{uri}: cannot be copied to {home} ({err})", "mend it, or set XALIGN_CACHE"
            ) from err
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return home
