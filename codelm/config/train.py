"""What a training run is: the YAML of `train/main.py`. Its sections are in `codelm.config.training`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from codelm.config.fields import ComposerPath, PositiveDuration, PositiveInt, Section, Seed, SeqLen
from codelm.config.model import ModelSection
from codelm.config.training.callbacks import CallbacksSection
from codelm.config.training.checkpoints import NumberToKeep, PositiveSeconds, RemoteFolder, SaveBestSection
from codelm.config.training.data import EvalDataSection, TokenizerSection, TrainDataSection
from codelm.config.training.loggers import LoggersSection
from codelm.config.training.optim import AlgorithmsSection, ConstantSection, OptimizerSection, SchedulerSection
from codelm.config.training.parallel import ActivationCheckpointing, CompileSection, FSDPSection, MicrobatchSize


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
    device_train_microbatch_size: MicrobatchSize
    """Samples in one forward and backward pass on one device; the rest is gradient accumulation. auto: tried before the
    first step, the fastest that fits in memory; resuming keeps it.
    """
    device_eval_batch_size: PositiveInt = 8
    eval_interval: PositiveDuration | None = None
    """null evaluates at the end only."""
    eval_first: bool = False
    """Also evaluate before the first step."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Literal["auto", "fp32", "amp_bf16"] = "auto"
    """auto: amp_bf16 on GPU, fp32 on CPU, where amp_bf16 is for trying: few processors are faster with it."""
    fsdp_config: FSDPSection | None = None
    activation_checkpointing: ActivationCheckpointing = None
    """true: recompute each block's activations in the backward pass: less memory, about a third more time."""
    compile: CompileSection | None = None
    """null runs the model as it is written."""
    callbacks: CallbacksSection = CallbacksSection()
    loggers: LoggersSection = LoggersSection()
    save_folder: ComposerPath
    save_interval: PositiveDuration
    save_num_checkpoints_to_keep: NumberToKeep = 2
    """The newest so many; -1 keeps all. What save_best and save_keep_every keep comes on top."""
    save_keep_every: PositiveDuration | None = None
    """Keep the checkpoints at multiples of this for good."""
    save_best: SaveBestSection | None = None
    save_async: bool = False
    """Write checkpoints in the background from a copy in the host's memory, while training goes on."""
    save_remote: RemoteFolder | None = None
    """A URL that fsspec opens (s3://bucket/folder, gs://…, file:///…): each finished checkpoint is uploaded there, and
    a run whose save_folder is empty goes on from the newest one there.
    """
    autoresume: bool = True
    """Continue from the newest whole checkpoint in save_folder."""
    watchdog_seconds: PositiveSeconds | None = 3600.0
    """When no batch is finished for so long, show where every rank stands and end the run; null waits for ever."""
    load_path: str | None = None
    """A checkpoint folder of codelm or a transformers folder whose weights the run starts from."""

    @model_validator(mode="after")
    def _adapters_have_a_base(self) -> "TrainConfig":
        if self.model.peft_config is None:
            return self
        if self.model.name == "replit_code" and self.load_path is None:
            raise ValueError(
                "model.peft_config trains adapters on weights that stay as they are; name their checkpoint by load_path"
            )
        if self.fsdp_config is not None and self.fsdp_config.version == 1:
            raise ValueError(
                "fsdp_config.version 1 keeps trained and untrained weights in one piece, which model.peft_config needs"
                " apart; set fsdp_config.version: 2"
            )
        few = next((key for key in ("load_in_8bit", "load_in_4bit") if getattr(self.model, key)), None)
        if few is not None and self.fsdp_config is not None:
            raise ValueError(
                f"model.{few} and fsdp_config exclude each other: bitsandbytes' weights cannot be spread over ranks;"
                " set fsdp_config: null, so that every rank holds the small weights (DDP)"
            )
        return self

    @model_validator(mode="after")
    def _folders_are_apart(self) -> "TrainConfig":
        export, own = self.callbacks.hf_checkpointer, Path(self.save_folder).absolute()
        if export is not None and export.save_folder is not None and Path(export.save_folder).absolute() == own:
            raise ValueError(
                "callbacks.hf_checkpointer.save_folder is save_folder too, where weights alone would take the place of"
                " checkpoints; name another, or leave it out for save_folder/huggingface"
            )
        if "://" in self.save_folder:
            raise ValueError(
                f"save_folder is a folder of this machine, and {self.save_folder} is a URL; name it as"
                " save_remote, where finished checkpoints are uploaded to"
            )
        if self.save_folder.startswith("~"):
            raise ValueError(
                f"save_folder {self.save_folder} would be a folder named ~, for nothing puts the home folder in its"
                " place; write it out, or ${oc.env:HOME}"
            )
        scheme, _, path = (self.save_remote or "").partition("://")
        if scheme in ("file", "local") and Path(path).absolute() == own:
            raise ValueError("save_remote is save_folder too, which would copy checkpoints onto themselves; delete it")
        return self

    @model_validator(mode="after")
    def _nothing_is_in_vain(self) -> "TrainConfig":
        callbacks = self.callbacks
        if callbacks.early_stopper is not None and self.eval_interval is None:
            raise ValueError(
                "callbacks.early_stopper watches validation, which eval_interval null makes at the end only; set"
                " eval_interval"
            )
        samples = callbacks.sample_completions
        if samples is not None and not samples.prompts and not self.eval_data:
            raise ValueError(
                "callbacks.sample_completions has no prompts, and there is no eval_data to cut held_out ones from; give"
                " one of them"
            )
        export = callbacks.hf_checkpointer
        if export is not None and export.precision != "float32" and self.model.peft_config is not None:
            raise ValueError(
                "callbacks.hf_checkpointer.precision is of whole weights, and adapters stay in float32; delete it"
            )
        return self

    @model_validator(mode="after")
    def _batches_fit(self) -> "TrainConfig":
        size = self.device_train_microbatch_size
        if size != "auto" and self.global_train_batch_size % size:
            raise ValueError(
                f"global_train_batch_size {self.global_train_batch_size} is not divisible by"
                f" device_train_microbatch_size {size}"
            )
        return self
