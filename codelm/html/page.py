"""The frame of a report: style, headings, tables. All texts are escaped here."""

from collections.abc import Iterable
from html import escape

_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #555; --paper: #fff; --shade: #f6f6f6; --rule: #ddd;
  --good: #17703a; --bad: #a02020 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e4e4; --soft: #a8a8a8; --paper: #17191c; --shade: #22252a; --rule: #3a3e45;
    --good: #6fcf97; --bad: #ff8f85 }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid var(--rule) }
h3 { font-size: 1rem; margin: 1.2rem 0 .2rem }
table { border-collapse: collapse; margin: .6rem 0; display: block; overflow-x: auto }
td, th { padding: .15rem .7rem; text-align: right }
td:first-child, th:first-child { text-align: left } tr:nth-child(even) { background: var(--shade) }
th { border-bottom: 1px solid var(--soft); font-weight: 600 }
tr.all td { border-top: 1px solid var(--soft); font-weight: 600 }
svg { max-width: 100%; height: auto } svg text { font-size: 12px; fill: var(--ink) } svg text.small { font-size: 10px }
svg .axis { stroke: var(--rule); stroke-width: 1 }
svg .zero { stroke: var(--soft); stroke-width: 1.5 } svg polyline { fill: none; stroke-width: 1.6 }
pre { background: var(--shade); padding: .6rem; font-size: 12.5px; line-height: 1.4; white-space: pre-wrap;
  overflow-wrap: anywhere }
pre b { font-weight: 700 }
.key { margin-right: 1rem; display: inline-block }
.key i { display: inline-block; width: .8em; height: .8em; margin-right: .3em }
.from { color: var(--soft); font-size: 12.5px; margin: .8rem 0 0 } .note { color: var(--soft) }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 0 1.5rem }
svg text.on { paint-order: stroke; stroke: var(--paper); stroke-width: 4px }
.verdict { font-size: 1.15rem; border-left: 4px solid #0072b2; padding: .5rem .9rem; background: var(--shade) }
.good { color: var(--good) } .bad { color: var(--bad) }
details { margin: .3rem 0 } summary { cursor: pointer }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 0 1rem }
"""


def page(title: str, parts: Iterable[str]) -> bytes:
    """A whole document; nothing in it can act, whatever the parts hold."""
    text = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )
    return text.encode("utf-8", "backslashreplace")


def section(title: str, body: str) -> str:
    """A heading and what is below it; nothing where that is empty."""
    return f"<h2>{escape(title)}</h2>{body}" if body else ""


def table(header: Iterable[str], rows: Iterable[Iterable[str]], total: Iterable[str] | None = None) -> str:
    """A table with a line of sums, if there is one."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    last = f'<tr class="all">{"".join(f"<td>{escape(cell)}</td>" for cell in total)}</tr>' if total is not None else ""
    return f"<table><tr>{head}</tr>{body}{last}</table>"


def note(text: str) -> str:
    """A sentence of explanation."""
    return f'<p class="note">{escape(text)}</p>'
