"""Settings of encoders, objective and training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from xalign_dist.config.base import Section
from xalign_dist.config.deepspeed import DeepSpeedConfig, deepspeed_config


class EncoderConfig(Section):
    """The encoder that is trained."""

    model: str = Field(
        "builtin:e5-small?layers=4",
        description="Hub id, local directory, or builtin:e5-small[?layers=N].",
    )
    pooling: Literal["auto", "mean", "cls", "last"] = Field(
        "auto", description="auto: what the model directory says, else mean."
    )
    max_tokens: int = Field(128, ge=8, le=8192, description="Tokens per text; longer is cut.")
    query_prefix: str = Field("", description="Put before every source text.")
    passage_prefix: str = Field("", description="Put before every target text.")
    trim_vocabulary: bool = Field(
        True, description="Keep only the embedding rows that the corpus (and every byte) can reach."
    )
    projection: Literal["none", "linear", "mlp"] = Field(
        "none", description="Head after pooling: one matrix, or two with GELU between."
    )
    projection_dim: int | None = Field(None, ge=2, description="None: as the backbone's width.")
    orthogonal: bool = Field(False, description="Keep a linear projection orthogonal (paper 2.1).")
    attention: Literal["auto", "sdpa", "eager", "flash"] = Field(
        "auto",
        description="auto: torch's kernels (sdpa) where the model has them; flash: flash_attn, on GPUs.",
    )
    lora_rank: int | None = Field(None, ge=1, description="LoRA through peft. None: train all.")
    lora_alpha: float | None = Field(None, gt=0, description="LoRA's scale. None: twice the rank.")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the LoRA matrices.")
    lora_targets: list[str] | None = Field(
        None, description="Linear layers that get LoRA, by last name (q_proj, ...). None: all."
    )
    gradient_checkpointing: bool = Field(False, description="Recompute activations: less memory.")


class TemperatureConfig(Section):
    """tau = base(progress) * g(gap), clamped (docs/method.md)."""

    enabled: bool = Field(False, description="False: tau is `fixed` throughout.")
    fixed: float = Field(0.05, gt=0, description="Temperature of plain InfoNCE.")
    start: float = Field(0.07, gt=0, description="Base at progress 0 (softer).")
    end: float = Field(0.04, gt=0, description="Base at progress 1 (sharper).")
    sensitivity: float = Field(
        0.3, ge=0, description="How far g moves with the positive/negative gap: exp(-s * z)."
    )
    minimum: float = Field(0.01, gt=0, description="tau is never below.")
    maximum: float = Field(0.2, gt=0, description="tau is never above.")
    smoothing: float = Field(0.9, ge=0, lt=1, description="Exponential mean of the gap: weight of the past.")


class HardnessConfig(Section):
    """Weights on negatives, exp(beta * s), mean 1 (Robinson et al. 2021)."""

    enabled: bool = Field(False, description="False: every negative weighs 1.")
    beta: float = Field(1.0, ge=0, description="0: uniform; larger: harder negatives weigh more.")


class FalseNegativeConfig(Section):
    """Negatives that are probably translations are masked."""

    enabled: bool = Field(False, description="False: only the diagonal is positive, all else negative.")
    delta: float = Field(0.02, ge=0, description="Mask j when s_ij > s_ii + delta.")
    warmup: float = Field(0.1, ge=0, le=1, description="Share of training before delta masking acts.")


class RegulariserConfig(Section):
    """Consistency with the frozen reference's in-batch similarity structure, fading with alignment."""

    enabled: bool = Field(True, description="False: lambda_R is 0.")
    weight: float = Field(1.0, ge=0, description="lambda_max in lambda_max * (1 - A) + floor.")
    floor: float = Field(0.3, ge=0, description="What is left of lambda_R when A = 1.")
    reference_temperature: float = Field(0.02, gt=0, description="Temperature of the reference's softmax.")
    student_temperature: float = Field(0.05, gt=0, description="Temperature of the student's softmax.")
    within: float = Field(1.0, ge=0, description="Weight of the consistency among texts of one side, in R.")
    alignment_weight: float = Field(0.0, ge=0, description="Weight of mean(1 - s_ii) inside R.")
    smoothing: float = Field(0.9, ge=0, lt=1, description="Exponential mean behind A: weight of the past.")


class AdversaryConfig(Section):
    """Language discriminator behind gradient reversal (Ganin et al. 2016)."""

    enabled: bool = Field(False, description="False: lambda_A is 0 and no discriminator is built.")
    weight: float = Field(0.02, ge=0, description="Peak of lambda_A.")
    warmup: float = Field(
        0.0, ge=0, lt=1, description="Share of training before the contrastive term acts: adversary first."
    )
    ramp: float = Field(0.2, ge=0, le=1, description="Share of training over which lambda_A rises.")
    decay_from: float = Field(0.6, ge=0, le=1, description="Progress after which lambda_A falls to 0.")
    hidden: int = Field(64, ge=2, description="Units of the discriminator's hidden layer.")


class ObjectiveConfig(Section):
    """The dynamic contrastive objective. Everything disabled is fixed-temperature InfoNCE."""

    temperature: TemperatureConfig = TemperatureConfig()
    hardness: HardnessConfig = HardnessConfig()
    false_negatives: FalseNegativeConfig = FalseNegativeConfig()
    regulariser: RegulariserConfig = RegulariserConfig()
    adversary: AdversaryConfig = AdversaryConfig()

    @model_validator(mode="after")
    def _warmup_is_anchored(self) -> ObjectiveConfig:
        if self.adversary.warmup > 0 and not (self.adversary.enabled and self.regulariser.enabled):
            raise ValueError(
                "objective.adversary.warmup needs adversary.enabled and regulariser.enabled: nothing else "
                "trains then, and the adversary alone would make all texts alike; set adversary.warmup=0"
            )
        return self

    @staticmethod
    def paper() -> ObjectiveConfig:
        """Every part on. The defaults leave out those that showed no effect (RESULTS.md)."""
        return ObjectiveConfig(
            temperature=TemperatureConfig(enabled=True),
            hardness=HardnessConfig(enabled=True),
            false_negatives=FalseNegativeConfig(enabled=True),
            regulariser=RegulariserConfig(enabled=True),
            adversary=AdversaryConfig(enabled=True),
        )

    @staticmethod
    def infonce(temperature: float = 0.05) -> ObjectiveConfig:
        """The baseline: every adaptive part off."""
        return ObjectiveConfig(
            temperature=TemperatureConfig(enabled=False, fixed=temperature),
            hardness=HardnessConfig(enabled=False),
            false_negatives=FalseNegativeConfig(enabled=False),
            regulariser=RegulariserConfig(enabled=False),
            adversary=AdversaryConfig(enabled=False),
        )


class TrainingConfig(Section):
    """The loop."""

    steps: int = Field(200, ge=1, description="Optimizer steps over the whole run, all rounds together.")
    batch_pairs: int = Field(64, ge=2, description="Pairs per step over all workers.")
    chunk_pairs: int | None = Field(
        None, ge=1, description="Pairs encoded at once with cached gradients. None: the whole batch."
    )
    learning_rate: float = Field(2e-4, gt=0, description="Peak, AdamW.")
    warmup_share: float = Field(0.1, ge=0, lt=1, description="Share of steps of linear warm-up.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW, matrices only.")
    clip_norm: float = Field(1.0, gt=0, description="Gradient norm limit.")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="sgd is for parity tests.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 where the hardware has it, else fp32."
    )
    compile: bool = Field(
        False, description="torch.compile the layers: a minute at the start, then faster steps on GPUs."
    )
    homogeneous_batches: bool = Field(False, description="One language pair per batch.")
    bucket_by_length: bool = Field(True, description="Encode texts of like length together.")
    non_finite: Literal["stop", "skip"] = Field("stop", description="What a NaN or infinite loss does.")
    divergence: Literal["stop", "warn", "ignore"] = Field(
        "stop", description="What follows when loss and in-batch accuracy fall far behind their best."
    )
    checkpoint_every: int = Field(100, ge=1, description="Steps between checkpoints.")
    keep_checkpoints: int = Field(2, ge=1, description="Newest checkpoints kept.")
    deepspeed: DeepSpeedConfig = DeepSpeedConfig()

    @model_validator(mode="after")
    def _chunk_fits(self) -> TrainingConfig:
        if self.chunk_pairs is not None and self.chunk_pairs > self.batch_pairs:
            raise ValueError(
                f"chunk_pairs ({self.chunk_pairs}) is larger than batch_pairs ({self.batch_pairs});"
                " lower training.chunk_pairs or set it to null"
            )
        return self

    @model_validator(mode="after")
    def _fits_deepspeed(self) -> TrainingConfig:
        deepspeed_config(self)
        if self.compile and self.deepspeed.zero_stage == 3:
            raise ValueError(
                "compile and deepspeed.zero_stage=3 exclude each other: a compiled layer cannot gather its "
                "parameters; set training.compile=false or training.deepspeed.zero_stage to 0, 1 or 2"
            )
        return self
