import pytest
import torch
from encoder_world import KINDS, write_tiny

from xalign_dist.encoder import load_encoder


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Tiny matrices gain nothing from more threads, and wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_dirs(tmp_path_factory):
    """kind -> directory of a tiny random model. Read only."""
    home = tmp_path_factory.mktemp("tiny")
    return {kind: write_tiny(home, kind) for kind in KINDS}


@pytest.fixture
def tiny(tiny_dirs):
    """kind -> a fresh encoder on the CPU."""
    return lambda kind, config=None: load_encoder(str(tiny_dirs[kind]), config, "cpu")
