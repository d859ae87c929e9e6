"""Errors survive pickling; text keys are the same in every process."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import pytest

from xalign_dist import errors
from xalign_dist.records import text_key, text_keys

CLASSES = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.XalignError)]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda c: c.__name__)
def test_errors_survive_pickling(kind):
    error = pickle.loads(pickle.dumps(kind("corpus.tsv, line 3: two fields", "write three")))
    assert type(error) is kind
    assert str(error) == "corpus.tsv, line 3: two fields\n  remedy: write three"
    assert error.exit_code == kind.exit_code


def test_text_keys_do_not_depend_on_the_process():
    code = "from xalign_dist.records import text_key; print(text_key('Straße'))"
    found = {
        int(
            subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, "PYTHONHASHSEED": seed},
                capture_output=True,
                check=True,
                text=True,
            ).stdout
        )
        for seed in ("1", "2")
    }
    assert found == {text_key("Straße")}


def test_text_keys_tell_texts_apart():
    texts = ["a", "b", "a", "A", ""]
    keys = text_keys(texts).tolist()
    assert keys[0] == keys[2]
    assert len(set(keys)) == 4
    assert min(keys) >= 0
