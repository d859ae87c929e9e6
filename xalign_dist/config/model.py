"""Settings of encoders, objective and training."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from xalign_dist.config.base import Section


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
    lora_rank: int | None = Field(None, ge=1, description="LoRA through peft. None: train all.")
    gradient_checkpointing: bool = Field(False, description="Recompute activations: less memory.")


class TemperatureConfig(Section):
    """tau = base(progress) * g(gap), clamped (docs/method.md)."""

    enabled: bool = Field(True, description="False: tau is `fixed` throughout.")
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

    enabled: bool = Field(True, description="False: every negative weighs 1.")
    beta: float = Field(1.0, ge=0, description="0: uniform; larger: harder negatives weigh more.")


class FalseNegativeConfig(Section):
    """Negatives that are probably translations are masked."""

    enabled: bool = Field(True, description="False: only the diagonal is positive, all else negative.")
    delta: float = Field(0.02, ge=0, description="Mask j when s_ij > s_ii + delta.")
    warmup: float = Field(0.1, ge=0, le=1, description="Share of training before delta masking acts.")


class RegulariserConfig(Section):
    """Consistency with the frozen reference's in-batch similarity structure, fading with alignment."""

    enabled: bool = Field(True, description="False: lambda_R is 0.")
    weight: float = Field(1.0, ge=0, description="lambda_max in lambda_max * (1 - A) + floor.")
    floor: float = Field(0.3, ge=0, description="What is left of lambda_R when A = 1.")
    reference_temperature: float = Field(0.02, gt=0, description="Temperature of the reference's softmax.")
    student_temperature: float = Field(0.05, gt=0, description="Temperature of the student's softmax.")
    alignment_weight: float = Field(0.0, ge=0, description="Weight of mean(1 - s_ii) inside R.")
    smoothing: float = Field(0.9, ge=0, lt=1, description="Exponential mean behind A: weight of the past.")


class AdversaryConfig(Section):
    """Language discriminator behind gradient reversal (Ganin et al. 2016)."""

    enabled: bool = Field(True, description="False: lambda_A is 0 and no discriminator is built.")
    weight: float = Field(0.02, ge=0, description="Peak of lambda_A.")
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


class DeepSpeedConfig(Section):
    """Settings handed to DeepSpeed."""

    zero_stage: Literal[0, 1, 2, 3] = Field(0, description="ZeRO stage; 0: no sharding.")
    offload: Literal["none", "cpu"] = Field("none", description="Where optimizer state lives.")
    extra: dict[str, Any] = Field(
        default_factory=dict, description="Merged into the DeepSpeed JSON; contradictions are refused."
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
    homogeneous_batches: bool = Field(False, description="One language pair per batch.")
    bucket_by_length: bool = Field(True, description="Encode texts of like length together.")
    non_finite: Literal["stop", "skip"] = Field("stop", description="What a NaN or infinite loss does.")
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
