"""The licence of an export, and what the licences of its ancestors ask it to say."""

from collections.abc import Sequence

from codelm.model.lineage import REPLIT, Ancestor

SHARE_ALIKE = "CC-BY-SA-4.0"
_REPLIT_LINK = f"https://huggingface.co/{REPLIT}"
_LICENCE_LINK = "https://creativecommons.org/licenses/by-sa/4.0/"


def is_from_replit(lineage: Sequence[Ancestor]) -> bool:
    """Whether weights or vocabulary descend from replit-code-v1-3b."""
    return any(ancestor.name == REPLIT for ancestor in lineage)


def result_licence(lineage: Sequence[Ancestor]) -> str | None:
    """The licence that the result must have, as an SPDX id; None when no ancestor known here decides it."""
    return SHARE_ALIKE if is_from_replit(lineage) else None


def licence_section(lineage: Sequence[Ancestor], changes: Sequence[str]) -> list[str]:
    """The card's last section: attribution, link, statement of changes, licence of the result."""
    lines = ["## Licence", ""]
    if is_from_replit(lineage):
        weights = any(ancestor == Ancestor(REPLIT, "weights", ancestor.licence) for ancestor in lineage)
        what = "This model is adapted" if weights else "The vocabulary of this model is taken"
        lines += [
            f"{what} from [replit-code-v1-3b]({_REPLIT_LINK}) by Replit, Inc., whose checkpoint and vocabulary are "
            f"licensed under [CC BY-SA 4.0]({_LICENCE_LINK}).",
            "",
            "Changes made to the original:",
            "",
            *(
                f"- {change}"
                for change in (changes if weights else ["a model of its own uses the vocabulary as it is"])
            ),
            "",
            f"As that licence asks, this model is shared under the same licence, [CC BY-SA 4.0]({_LICENCE_LINK}). "
            "Replit has endorsed neither it nor its use. Keep this section with every copy.",
            "",
        ]
    others = [ancestor for ancestor in lineage if ancestor.name != REPLIT and ancestor.part == "weights"]
    for ancestor in others:
        if ancestor.licence:
            lines += [f"{ancestor.name} is under {ancestor.licence}, whose terms go with it.", ""]
        elif not is_from_replit(lineage):
            lines += [f"The licence of {ancestor.name}, which this model was made from, is not known here.", ""]
    if not lineage:
        lines += ["It was trained from scratch: whoever publishes it chooses the licence of its weights.", ""]
    return lines
