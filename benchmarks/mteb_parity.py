"""The same model and texts through MTEB's evaluators and through ours: sentence and document retrieval.

MTEB (`pip install mteb`, tried with 2.26) gets its vectors from sentence-transformers, ours come from the
encoder of this package: embedding and metric are both compared. Equal to 1e-4 or the benchmark ends with 1.

    XALIGN_DATA=DIR python benchmarks/mteb_parity.py [--quick] [--json FILE]
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from common import Row, data_file, finish, parser

from xalign_dist.config import EncoderConfig
from xalign_dist.encoder import Encoder, embed_texts, load_encoder, save_encoder
from xalign_dist.evaluation.clir import rank_documents
from xalign_dist.evaluation.retrieval import retrieval

MODEL = "builtin:e5-small?layers=4"
TOLERANCE = 1e-4
LANGUAGES = ("deu", "swh", "tel", "cmn", "ara", "zho", "gle", "amh")
K = 10


def main() -> None:
    """Parse, compare, print."""
    out = parser(__doc__)
    out.add_argument("--model", default=MODEL)
    args = out.parse_args()
    try:
        import mteb
        from sentence_transformers import SentenceTransformer
    except ImportError as err:
        sys.exit(f"This benchmark needs its peer: pip install mteb ({err})")
    warnings.filterwarnings("ignore", "To copy construct from a tensor")  # MTEB's own, once a language
    encoder = load_encoder(args.model, EncoderConfig(model=args.model, max_tokens=256), torch.device("cpu"))
    with tempfile.TemporaryDirectory() as home:
        save_encoder(encoder, home)
        peer = SentenceTransformer(home, device="cpu")
        peer.max_seq_length = 256
        rows = [*bitext(encoder, peer, 200 if args.quick else 1000), *documents(encoder, peer, args.quick)]
    finish(f"Ours and MTEB {mteb.__version__}, {args.model}", rows, args.json)
    worst = max(abs(row.ours - row.peer) for row in rows if row.peer is not None)
    if worst > TOLERANCE:
        sys.exit(f"they differ by {worst:.2e}, more than {TOLERANCE:g}")


def bitext(encoder: Encoder, peer: Any, limit: int) -> list[Row]:
    """Accuracy and F1 of both directions, Tatoeba's sentences."""
    from mteb._evaluators.text.bitext_mining_evaluator import BitextMiningEvaluator
    from mteb.abstasks.text.bitext_mining import AbsTaskBitextMining

    table = pq.read_table(data_file("eval_tatoeba.parquet"))
    rows = []
    for lang in sorted(set(table["lang"].to_pylist()) & set(LANGUAGES)):
        own = table.filter(pc.equal(table["lang"], lang)).slice(0, limit)
        src, tgt = own["eng"].to_pylist(), own["text"].to_pylist()
        ours = retrieval(*_ours(encoder, src, tgt))
        theirs = _peer(peer, src, tgt)
        for name, scores, (one, two) in (
            (f"eng-{lang}", ours.forward, theirs),
            (f"{lang}-eng", ours.backward, theirs[::-1]),
        ):
            nearest = BitextMiningEvaluator._similarity_search(None, one, two, peer)
            found = AbsTaskBitextMining._compute_metrics(None, nearest, [(i, i) for i in range(len(src))])
            rows.append(Row(f"bitext {name}: accuracy", scores.accuracy, found["accuracy"], "", len(src)))
            rows.append(Row(f"bitext {name}: F1", scores.f1, found["f1"], "", len(src)))
    return rows


def documents(encoder: Encoder, peer: Any, quick: bool) -> list[Row]:
    """MRR, nDCG and recall at 10: XQuAD's questions over the paragraphs of another language."""
    from mteb._evaluators.retrieval_metrics import calculate_retrieval_scores

    questions = pq.read_table(data_file("eval_xquad_questions.parquet"))
    paragraphs = pq.read_table(data_file("eval_xquad_paragraphs.parquet"))
    rows = []
    for asked, searched in (("de", "en"), ("en", "ar")):
        q = questions.filter(pc.equal(questions["lang"], asked)).slice(0, 50 if quick else 200)
        p = paragraphs.filter(pc.equal(paragraphs["lang"], searched))
        if not q.num_rows or not p.num_rows:
            sys.exit(f"no XQuAD text in {asked} or {searched}")
        place = {para: i for i, para in enumerate(p["para_id"].to_pylist())}
        gold = [place[para] for para in q["para_id"].to_pylist()]
        query_ND, document_MD = _ours(encoder, q["question"].to_pylist(), p["text"].to_pylist())
        ours = rank_documents(query_ND, document_MD, [{g} for g in gold], k=K)
        one, two = _peer(peer, q["question"].to_pylist(), p["text"].to_pylist())
        similarity = peer.similarity(one, two).numpy()
        results: dict[str, dict[str, float]] = defaultdict(dict)
        for i, row in enumerate(similarity):
            for j in np.argsort(-row, kind="stable")[:100]:
                results[str(i)][str(j)] = float(row[j])
        qrels = {str(i): {str(g): 1} for i, g in enumerate(gold)}
        found = calculate_retrieval_scores(results, qrels, [K])
        for name, value, theirs in (
            ("MRR", ours.rr_N.mean(), found.mrr[f"MRR@{K}"]),
            ("nDCG", ours.ndcg_N.mean(), found.ndcg[f"NDCG@{K}"]),
            ("recall", ours.recall_N.mean(), found.recall[f"Recall@{K}"]),
        ):
            rows.append(
                Row(f"documents {asked}-{searched}: {name}@{K}", float(value), theirs, "", q.num_rows)
            )
    return rows


def _ours(encoder: Encoder, *sides: list[str]) -> list[np.ndarray]:
    return [embed_texts(encoder, side, precision="fp32") for side in sides]


def _peer(peer: Any, *sides: list[str]) -> list[torch.Tensor]:
    return [peer.encode(side, convert_to_tensor=True, show_progress_bar=False) for side in sides]


if __name__ == "__main__":
    main()
