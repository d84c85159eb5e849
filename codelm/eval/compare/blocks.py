"""A report as a list of blocks, written as HTML or as Markdown."""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from codelm.html.page import note, page, table


@dataclass(frozen=True)
class Heading:
    """Of a section, or of a part of one."""

    text: str
    small: bool = False


@dataclass(frozen=True)
class Text:
    """A paragraph. `role`: verdict (what stands on top), note (small print), or nothing."""

    text: str
    role: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first column names them."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Chart:
    """An SVG, of what a table beside it says in figures; Markdown goes without."""

    svg: str


@dataclass(frozen=True)
class Column:
    """One system's completion: its name, whether it was the better one, what it wrote and what that deserved."""

    title: str
    good: bool
    code: str
    verdict: str


@dataclass(frozen=True)
class SideBySide:
    """A problem and several completions of it."""

    title: str
    before: str
    columns: tuple[Column, ...]
    behind: str = ""


Block = Heading | Text | Table | Chart | SideBySide


def to_html(title: str, blocks: Iterable[Block]) -> bytes:
    """A page that needs nothing else."""
    return page(title, [f"<h1>{escape(title)}</h1>", *map(_html, blocks)])


def to_markdown(title: str, blocks: Iterable[Block]) -> str:
    """The same for a terminal, a pull request, a wiki."""
    return "\n".join([f"# {title}\n", *filter(None, map(_markdown, blocks))])


def _html(block: Block) -> str:
    match block:
        case Heading(text, small):
            tag = "h3" if small else "h2"
            return f"<{tag}>{escape(text)}</{tag}>"
        case Text(text, "note"):
            return note(text)
        case Text(text, role):
            return f'<p class="{role}">{escape(text)}</p>' if role else f"<p>{escape(text)}</p>"
        case Table(header, rows):
            return table(header, rows) if rows else ""
        case Chart(svg):
            return f'<div class="chart">{svg}</div>' if svg else ""
        case SideBySide(title, before, columns, behind):
            told = "".join(
                f'<div><p class="from">{escape(one.title)}: <span class="{"good" if one.good else "bad"}">'
                f"{escape(one.verdict)}</span></p><pre><b>{escape(one.code)}</b></pre></div>"
                for one in columns
            )
            around = [f"<pre>{escape(text)}</pre>" if text else "" for text in (before, behind)]
            sides = f'<div class="sides">{told}</div>'
            return f"<details><summary>{escape(title)}</summary>{around[0]}{sides}{around[1]}</details>"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, small):
            return f"{'###' if small else '##'} {text}\n"
        case Text(text, "verdict"):
            return f"**{text}**\n"
        case Text(text, _):
            return f"{text}\n"
        case Table(header, rows):
            lines = [header, ("---",) * len(header), *rows]
            return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
        case Chart():
            return ""
        case SideBySide(title, before, columns, behind):
            parts = [f"#### {title}\n", _fenced(before) if before else ""]
            for one in columns:
                parts += [f"{one.title}: {one.verdict}\n", _fenced(one.code)]
            return "\n".join(filter(None, [*parts, _fenced(behind) if behind else ""]))


def _fenced(code: str) -> str:
    runs = "".join(character if character == "`" else " " for character in code).split()
    fence = "`" * max(3, 1 + max(map(len, runs), default=0))
    return f"{fence}\n{code}{'' if code.endswith(chr(10)) else chr(10)}{fence}\n"
