"""A synthetic run directory, see synthetic_run.py."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from synthetic_run import build_run


@pytest.fixture(scope="session")
def built_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("reporting") / "run")


@pytest.fixture
def run_dir(built_run: Path, tmp_path: Path) -> Path:
    """12 languages, 2 rounds, 200 steps, corpus text that attacks the page; free to be changed."""
    return Path(shutil.copytree(built_run, tmp_path / "run"))
