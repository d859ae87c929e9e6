"""Settings of what is read and how it is cleaned."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from xalign_dist.config.base import Section


class CorpusConfig(Section):
    """One corpus: parallel text (pairs) or the sentences of one side (sentences)."""

    path: str = Field(description="File, folder, glob or URI (any fsspec scheme). Moses: first side.")
    kind: Literal["pairs", "sentences"] = Field(
        "pairs", description="pairs: translations side by side; sentences: monolingual text."
    )
    format: Literal["auto", "parquet", "jsonl", "tsv", "moses", "tmx", "gettext", "hf"] = Field(
        "auto", description="auto: from the file's ending."
    )
    target_path: str | None = Field(
        None, description="The other side of a Moses corpus. None: not a Moses corpus."
    )
    src_lang: str | None = Field(
        None, description="Language of src (pairs) or of every row. None: from column src_lang/lang."
    )
    tgt_lang: str | None = Field(
        None, description="Language of tgt. None: from column tgt_lang. Unused for sentences."
    )
    source: str | None = Field(
        None, description="Name in audits and records. None: column `source`, else the file's name."
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="Our column -> the file's column, e.g. {src: english}."
    )
    mining_group: str | None = Field(
        None, description="Sentences are mined only within their group; needs `source`. None: one group."
    )
    max_rows: int | None = Field(None, ge=1, description="Rows read at most. None: all.")
    max_row_fault_share: float = Field(
        0.1, ge=0, le=1, description="Share of unreadable rows above which the run stops."
    )

    @model_validator(mode="after")
    def _group_is_found_by_source(self) -> CorpusConfig:
        if self.mining_group is not None and self.source is None:
            raise ValueError("mining_group needs a source: name one, different for each group")
        return self


class CleaningConfig(Section):
    """Filters, in the order in which they run. Each rejected row keeps its reason."""

    filters: list[str] = Field(
        default_factory=lambda: [
            "empty",
            "length",
            "ratio",
            "identical",
            "language",
            "exact_duplicate",
            "near_duplicate",
        ],
        description="Names from the filter registry, in order; duplicate filters always run last.",
    )
    min_chars: int = Field(2, ge=1, description="Characters a side must have.")
    max_chars: int = Field(2000, ge=10, description="Characters a side may have.")
    max_ratio: float = Field(
        4.0, gt=1, description="Longest side over shortest, in UTF-8 bytes after adding 15 to each."
    )
    language_check: Literal["off", "script", "identify"] = Field(
        "identify", description="script: Unicode script only; identify: packaged identifier too."
    )
    language_min_chars: int = Field(
        40, ge=0, description="Shorter texts are not judged by the identifier, only by script."
    )
    language_min_confidence: float = Field(
        0.9, ge=0, le=1, description="Identifier certainty of ANOTHER language needed to reject."
    )
    near_duplicate_jaccard: float = Field(
        0.9, gt=0, le=1, description="MinHash similarity of character 5-grams that counts as a copy."
    )
    minhash_permutations: int = Field(64, ge=16, le=512, description="Hash functions of MinHash.")
    unescape_html: bool = Field(True, description="Turn &amp; and the like into characters.")


class PairsConfig(Section):
    """How scored pairs become training data."""

    target_noise: float = Field(
        0.02, gt=0, lt=1, description="Noise rate allowed among the kept pairs; sets the threshold."
    )
    use_confidence_as_weight: bool = Field(
        True, description="Weight each pair's loss by its confidence. False: kept pairs weigh 1."
    )
    filter_parallel: bool = Field(
        True, description="Drop parallel pairs under the threshold. False: keep every pair."
    )
    use_mined: bool = Field(True, description="Train on mined pairs too.")
    sampling_temperature: float = Field(
        2.0, ge=1, description="Language pairs are drawn by size ** (1/T): 1 by size, large: evenly."
    )
    test_share: float = Field(0.2, gt=0, lt=1, description="Share of groups held out for test.")
    dev_share: float = Field(0.1, gt=0, lt=1, description="Share of groups held out for choices.")

    @model_validator(mode="after")
    def _shares_leave_training(self) -> PairsConfig:
        if self.test_share + self.dev_share >= 0.9:
            raise ValueError("test_share + dev_share must stay under 0.9; lower one of them")
        return self
