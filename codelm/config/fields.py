"""The pieces that the sections of a run's YAML are made of: the strict base class, durations, language shares."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from codelm.languages import INSTRUCTIONS, LANGUAGES, PRESETS


class Section(BaseModel):
    """A section of the YAML: unknown keys are errors, types are strict, values never change after loading."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        use_attribute_docstrings=True,
        # A command needs the validator of one whole configuration, not those of all sections of all kinds.
        defer_build=True,
    )
    off: ClassVar[str] = ""
    """What switches the section off, where its defaults do not; an explicit `null` there is refused with this."""


PositiveInt = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]

_TOO_LONG = 1e18
UNITS = ("ba", "ep", "sp", "tok")
_DURATION = re.compile(r"(?P<value>\d+(?:\.\d+)?(?:e\+?\d+)?)(?P<unit>[a-z]+)")


def parse_duration(text: str) -> tuple[int, str]:
    """Split `5e9tok` into (5000000000, "tok"). Units: ba (batches), ep (epochs), sp (samples), tok (tokens).

    Raises:
        ValueError: with the sentence for the user, when the text is no whole number of a known unit.
    """
    match = _DURATION.fullmatch(text)
    if match is None or match["unit"] not in UNITS:
        raise ValueError(f"`{text}` is no duration; write a number and a unit, such as 100ba, 2ep or 5e9tok")
    value = float(match["value"])
    if value >= _TOO_LONG:
        raise ValueError(f"`{text}` is beyond all training; write less than {_TOO_LONG:.0e}{match['unit']}")
    if value != int(value):
        raise ValueError(f"`{text}` is not a whole number of {match['unit']}")
    return int(value), match["unit"]


# numpy takes 32 bits, and every rank adds its number to it.
Seed = Annotated[int, Field(ge=0, lt=10**9)]

SeqLen = Annotated[int, Field(ge=2)]
"""Tokens in a sample; in a sample of one token nothing would be predicted."""


def _no_placeholder(path: str) -> str:
    if "{" in path or "}" in path:
        raise ValueError(f"`{path}` has braces, which Composer would fill in; write ${{run_name}} for the run's name")
    return path


ComposerPath = Annotated[str, AfterValidator(_no_placeholder)]
"""A path that Composer reads: `{…}` is its placeholder syntax."""


def _needs_unit(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"{value} has no unit; write {value}ba (batches), {value}ep (epochs) or {value}tok (tokens)")
    return value


def _normal_duration(text: str) -> str:
    value, unit = parse_duration(text)
    return f"{value}{unit}"


def _positive_duration(text: str) -> str:
    if parse_duration(text)[0] == 0:
        raise ValueError(f"`{text}` must be more than zero")
    return text


_DURATION_SCHEMA = {"pattern": rf"^\d+(\.\d+)?(e\+?\d+)?({'|'.join(UNITS)})$", "examples": ["100ba", "2ep", "5e9tok"]}
Duration = Annotated[
    str,
    BeforeValidator(_needs_unit),
    AfterValidator(_normal_duration),
    Field(json_schema_extra=_DURATION_SCHEMA),
]
"""A span of training such as `100ba`, `2ep`, `5e9tok`."""

PositiveDuration = Annotated[Duration, AfterValidator(_positive_duration)]


def known_language(name: str) -> str:
    """Return the name, or raise pydantic's error of type `language`, which the loader turns into a sentence."""
    if name not in LANGUAGES:
        raise PydanticCustomError("language", "`{name}` is none of the 20 languages", {"name": name})
    return name


def _some_share(shares: dict[str, float]) -> dict[str, float]:
    if not sum(shares.values()) > 0:
        raise ValueError("a mixture needs at least one language with a share above 0")
    return shares


LanguageName = Annotated[str, AfterValidator(known_language), Field(json_schema_extra={"enum": [*LANGUAGES]})]


def _known_stream(name: str) -> str:
    return name if name == INSTRUCTIONS else known_language(name)


_STREAMS = Field(json_schema_extra={"enum": [*LANGUAGES, INSTRUCTIONS]})
StreamName = Annotated[str, AfterValidator(_known_stream), _STREAMS]
"""A language, or `instructions`."""

Shares = Annotated[dict[StreamName, Annotated[float, Field(ge=0)]], AfterValidator(_some_share)]
Preset = Literal["corpus", "natural", "replit-order"]


MIXTURE_FORMS = ("preset", "shares")
LICENCE_FORMS = ("preset", "list")


def _mixture_form(value: object) -> str:
    return MIXTURE_FORMS[isinstance(value, dict)]


Mixture = Annotated[
    Annotated[Preset, Tag(MIXTURE_FORMS[0])] | Annotated[Shares, Tag(MIXTURE_FORMS[1])],
    Discriminator(_mixture_form),
]
"""Shares by language (any positive scale), or a preset; `corpus` takes each language as often as it occurs."""

assert set(PRESETS) < set(Preset.__args__)
