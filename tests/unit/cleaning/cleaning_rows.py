"""Tables from short lists, for tests."""

import pyarrow as pa

from xalign_dist.records import PAIR, SENTENCE


def pairs(*rows: tuple[str, str], src_lang: str = "eng", tgt_lang: str = "deu") -> pa.Table:
    """Pairs with ids s0, s1, ... and t0, t1, ..."""
    return pa.Table.from_pylist(
        [
            {"src_id": f"s{i}", "tgt_id": f"t{i}", "src": a, "tgt": b, "source": "test"}
            | {"src_lang": src_lang, "tgt_lang": tgt_lang}
            for i, (a, b) in enumerate(rows)
        ],
        schema=PAIR,
    )


def sentences(*texts: str, lang: str = "eng") -> pa.Table:
    """Sentences with ids x0, x1, ..."""
    return pa.Table.from_pylist(
        [{"id": f"x{i}", "lang": lang, "text": t, "source": "test"} for i, t in enumerate(texts)],
        schema=SENTENCE,
    )


def verdicts(rejects: pa.Table) -> dict[str, str]:
    """Id -> reason."""
    ids = rejects["src_id" if "src_id" in rejects.column_names else "id"].to_pylist()
    return dict(zip(ids, rejects["reason"].to_pylist(), strict=True))
