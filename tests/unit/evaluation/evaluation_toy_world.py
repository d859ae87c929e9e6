"""A world whose truth is known: a text is `lang:concept`, a model is a noise level and a language offset."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xalign_dist.records import text_key

DIM = 24


def toy_embed(noise=0.0, offset=0.0, dim=DIM, seed=0):
    """Vectors of a concept, moved towards its language's own direction, with noise per text."""

    def embed(texts):
        rows = []
        for text in texts:
            lang, _, concept = text.partition(":")
            rows.append(
                _direction(f"concept {concept}", dim)
                + offset * _direction(f"language {lang}", dim)
                + noise * _direction(f"noise {seed} {text}", dim)
            )
        return np.array(rows, np.float32).reshape(len(texts), dim)

    return embed


def _direction(name, dim):
    return np.random.default_rng(text_key(name)).normal(size=dim)


def write_pairs(path, langs=("deu", "gle"), n=40):
    rows = [("eng", lang, f"eng:{i}", f"{lang}:{i}", str(i)) for lang in langs for i in range(n)]
    columns = zip(*rows, strict=True)
    pq.write_table(
        pa.table(dict(zip(("src_lang", "tgt_lang", "src", "tgt", "group"), map(list, columns), strict=True))),
        path,
    )
    return str(path)


def write(path, **columns):
    pq.write_table(pa.table(columns), path)
    return str(path)
