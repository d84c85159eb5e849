"""What a training run is: the YAML of `train/main.py`, a class for each section."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from codelm.config.fields import (
    ComposerPath,
    Duration,
    Mixture,
    PositiveDuration,
    Section,
    Seed,
    SeqLen,
    StreamName,
)
from codelm.config.model import ModelSection

PositiveInt = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Betas = Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)]


class TokenizerSection(Section):
    """The tokenizer that the shards were made with."""

    path: str
    """A folder with `spiece.model` (written by data_prep) or `tokenizer.json` (of a transformers model)."""


class StreamSection(Section):
    """One stream (a language, or `instructions`) of the training data."""

    upsample: Annotated[float, Field(gt=0)] = 1.0
    """Multiplies the stream's share before the shares are brought to a sum of 1."""
    limit: PositiveInt | None = None
    """Only so many of its samples, always the same ones, chosen by the seed; null means all."""
    repeat: PositiveInt | None = None
    """The passes after which it has run out. null: one with on_exhausted=end_epoch, any number with refill."""


class DataSourceSection(Section):
    """A prepared corpus and how its streams are mixed."""

    path: str
    """The output folder of data_prep, or where it was uploaded: s3://…, gs://…, https://…"""
    split: str = "train"
    mixture: Mixture = "corpus"
    """A child YAML's mixture replaces its parent's."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """T makes a share p of the mixture p^(1/T): above 1 rare languages come more often."""
    streams: dict[StreamName, StreamSection] = Field(default_factory=dict, json_schema_extra={"default": {}})


class ReplaySection(DataSourceSection):
    """A second corpus, usually what the model was trained on before; its streams are called `replay/<language>`."""

    share: Annotated[float, Field(gt=0, lt=1)]
    """Of all training samples. 0.01 already helps; 0.05 to 0.25 where the new data is very different."""


class FimSection(Section):
    """Fill in the middle, made when a sample is read; instruction data is left as it is."""

    rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Of the documents."""
    spm_rate: Fraction = 0.5
    """Of those, the share in the order suffix, prefix, middle; the others are prefix, suffix, middle."""


class TrainDataSection(DataSourceSection):
    """Where the training batches come from."""

    replay: ReplaySection | None = None
    on_exhausted: Literal["refill", "end_epoch"] = "refill"
    """refill: a stream that has run out starts again in a new order. end_epoch: the epoch ends before one runs out."""
    fim: FimSection | None = None
    shuffle_window: PositiveInt | None = None
    """Shuffle shards, and samples within so many of them; null: 8 for a remote corpus, all samples for a local one."""
    cache_folder: str | None = None
    """Where shards of a remote corpus are kept; null means ~/.cache/codelm/shards."""
    cache_limit: PositiveInt | None = None
    """Bytes that the cache may hold; the shards used longest ago make room. null means no limit."""
    num_workers: Annotated[int, Field(ge=0)] = 0


class EvalDataSection(Section):
    """One held-out set; every language of it gets its own loss and bits per byte."""

    path: str
    """As train_data.path; a remote one shares train_data's cache."""
    split: str = "validation"
    languages: list[StreamName] | None = None
    """null means all that are there."""
    max_samples_per_language: PositiveInt | None = None


class LionWSection(Section):
    """Lion with decoupled weight decay (lion-pytorch, `decoupled_weight_decay=True`), as MosaicML's DecoupledLionW.

    A step shrinks the weights by weight_decay · lr / initial lr: values are those of llm-foundry, not of AdamW.
    """

    name: Literal["lionw"]
    lr: Annotated[float, Field(gt=0)]
    betas: Betas = Field(default_factory=lambda: [0.9, 0.99])
    """Of the update and of the momentum; by default [0.9, 0.99]."""
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0


class AdamWSection(Section):
    """torch.optim.AdamW."""

    name: Literal["adamw"]
    lr: Annotated[float, Field(gt=0)]
    betas: Betas = Field(default_factory=lambda: [0.9, 0.95])
    """Of the mean and of the variance; by default [0.9, 0.95]."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


OptimizerSection = Annotated[LionWSection | AdamWSection, Field(discriminator="name")]


class CosineSection(Section):
    """Linear warm-up, then a cosine from the full rate down to alpha_f of it at max_duration."""

    name: Literal["cosine_with_warmup"]
    t_warmup: Duration = "0ba"
    alpha_f: Fraction = 0.1


class LinearSection(Section):
    """Linear warm-up, then a line from the full rate down to alpha_f of it at max_duration."""

    name: Literal["linear_with_warmup"]
    t_warmup: Duration = "0ba"
    alpha_f: Fraction = 0.0


class ConstantSection(Section):
    """Linear warm-up, then a constant rate."""

    name: Literal["constant_with_warmup"]
    t_warmup: Duration = "0ba"


SchedulerSection = Annotated[CosineSection | LinearSection | ConstantSection, Field(discriminator="name")]


class GradientClippingSection(Section):
    """Composer's GradientClipping."""

    clipping_type: Literal["norm", "value"] = "norm"
    clipping_threshold: Annotated[float, Field(gt=0)] = 1.0


class AlgorithmsSection(Section):
    """Composer algorithms."""

    gradient_clipping: GradientClippingSection | None = GradientClippingSection()


class FSDPSection(Section):
    """Fully sharded data parallelism; without this section several ranks train with DDP."""

    version: Literal[2] = 2
    reshard_after_forward: bool = True
    """false keeps the gathered weights until the backward pass: more memory, less communication."""
    state_dict_type: Literal["sharded", "full"] = "sharded"


class CompileSection(Section):
    """torch.compile; needs a C++ compiler on CPU, and costs up to a few minutes at the start."""

    mode: Literal["block"] = "block"
    """block: each decoder block on its own, so that one small graph serves them all."""


class CodeEvalSection(Section):
    """Generate completions for HumanEval, run them in the sandbox, log pass@1."""

    interval: PositiveDuration
    limit: PositiveInt | None = None
    """The first n problems only; null means all 164."""
    max_new_tokens: PositiveInt = 256
    batch_size: PositiveInt = 16
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0


class CallbacksSection(Section):
    """What runs beside training; progress, the metrics file and the NaN guard are always on."""

    code_eval: CodeEvalSection | None = None


class TensorboardSection(Section):
    """Composer's TensorboardLogger."""

    log_dir: str | None = None
    """null means save_folder/tensorboard."""


class WandbSection(Section):
    """Composer's WandBLogger."""

    project: str
    entity: str | None = None
    tags: list[str] = Field(default_factory=list)


class LoggersSection(Section):
    """Where metrics go besides save_folder/metrics.jsonl, which is always written."""

    tensorboard: TensorboardSection | None = None
    wandb: WandbSection | None = None


class TrainConfig(Section):
    """A training run."""

    run_name: Annotated[str, Field(min_length=1, pattern=r"^[\w.-]+$")]
    seed: Seed = 17
    max_seq_len: SeqLen
    """Tokens in a sample; must be the length of the shards."""
    tokenizer: TokenizerSection
    model: ModelSection
    train_data: TrainDataSection
    eval_data: dict[str, EvalDataSection] = Field(default_factory=dict, json_schema_extra={"default": {}})
    optimizer: OptimizerSection
    scheduler: SchedulerSection = ConstantSection(name="constant_with_warmup")
    algorithms: AlgorithmsSection = AlgorithmsSection()
    max_duration: PositiveDuration
    global_train_batch_size: PositiveInt
    """Samples in an optimizer step, over all ranks."""
    device_train_microbatch_size: PositiveInt
    """Samples in one forward and backward pass on one device; the rest is gradient accumulation."""
    device_eval_batch_size: PositiveInt = 8
    eval_interval: PositiveDuration | None = None
    """null evaluates at the end only."""
    eval_first: bool = False
    """Also evaluate before the first step."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Literal["auto", "fp32", "amp_bf16"] = "auto"
    """auto: amp_bf16 on GPU, fp32 on CPU."""
    fsdp_config: FSDPSection | None = None
    activation_checkpointing: bool = False
    """Recompute each block's activations in the backward pass: less memory, about a third more time."""
    compile: CompileSection | None = None
    """null runs the model as it is written."""
    callbacks: CallbacksSection = CallbacksSection()
    loggers: LoggersSection = LoggersSection()
    save_folder: ComposerPath
    save_interval: PositiveDuration
    save_num_checkpoints_to_keep: PositiveInt = 2
    autoresume: bool = True
    """Continue from the newest whole checkpoint in save_folder."""
    load_path: str | None = None
    """A checkpoint folder of codelm or a transformers folder whose weights the run starts from."""

    @model_validator(mode="after")
    def _batches_fit(self) -> "TrainConfig":
        if self.global_train_batch_size % self.device_train_microbatch_size:
            raise ValueError(
                f"global_train_batch_size {self.global_train_batch_size} is not divisible by"
                f" device_train_microbatch_size {self.device_train_microbatch_size}"
            )
        return self
