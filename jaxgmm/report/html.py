"""The pieces of a web page: tables, definitions, sections, the page around them; all text escaped on its way in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape


def page(title: str, body: Sequence[str]) -> str:
    """A whole page that loads nothing and runs nothing: light or dark as its reader's screen, and printable.

    Args:
        title: escaped here.
        body: html.

    Example:
        >>> page("a < b", ["<p>so</p>"]).count("a &lt; b")
        1
    """
    return _PAGE.format(title=escape(title), style=_STYLE, body="\n".join(body))


def section(name: str, title: str, parts: Iterable[str]) -> list[str]:
    """Html under a heading.

    Example:
        >>> section("end", "The end", [])[0]
        '<section aria-labelledby="end"><h2 id="end">The end</h2>'
    """
    return [f'<section aria-labelledby="{name}"><h2 id="{name}">{escape(title)}</h2>', *parts, "</section>"]


def table(caption: str, head: list[str], rows: Iterable[list[str]] | Mapping[str, Iterable[list[str]]]) -> str:
    """A table that scrolls where it is too wide; the first cell of a row is its header, NO is strong; rows may be in groups.

    Example:
        >>> "<td><strong>NO</strong></td>" in table("Found", ["what", "there"], [["a", "NO"]])
        True
    """
    titles = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    groups = rows if isinstance(rows, Mapping) else {"": rows}
    body = "".join(_group(title, own, len(head)) for title, own in groups.items())
    region = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
    return f"{region}<table><caption>{escape(caption)}</caption><thead><tr>{titles}</tr></thead>{body}</table></div>"


def _group(title: str, rows: Iterable[list[str]], width: int) -> str:
    heading = f'<tr><th scope="rowgroup" colspan="{width}">{escape(title)}</th></tr>' if title else ""
    lines = (f'<tr><th scope="row">{escape(row[0])}</th>' + "".join(map(_cell, row[1:])) + "</tr>" for row in rows)
    return f"<tbody>{heading}{''.join(lines)}</tbody>"


def _cell(text: str) -> str:
    return f"<td><strong>{escape(text)}</strong></td>" if text == "NO" else f"<td>{escape(text)}</td>"


def definitions(facts: Mapping[str, str]) -> str:
    """Names and what they stand for.

    Example:
        >>> definitions({"z": "a & b"})
        '<dl><dt>z</dt><dd>a &amp; b</dd></dl>'
    """
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items()) + "</dl>"


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

_STYLE = """
:root { --ink: #1c1c1c; --soft: #555; --paper: #fff; --line: #d5d5d5; --shade: #f5f5f3; --good: #00734f; --mixed: #a35200; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e6; --soft: #b0b0ac; --paper: #161616; --line: #3d3d3d; --shade: #222; --good: #4cc38a; --mixed: #e8a04c;
    --bad: #ff8a80; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .8rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
.verdict { border-left: .4rem solid var(--mixed); background: var(--shade); padding: .7rem 1rem; margin: 0 0 .8rem; }
.verdict.good { border-color: var(--good); } .verdict.bad { border-color: var(--bad); }
.verdict p { margin: .2rem 0; max-width: 46rem; } .verdict strong { font-size: 1.1rem; }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .35rem 1rem; margin: 0 0 1rem; }
dt { color: var(--soft); } dd { margin: 0; max-width: 46rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 0 0 1.2rem; } .scroll:focus-visible { outline: 2px solid var(--mixed); }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .22rem .45rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
th:first-child { text-align: left; padding-left: 0; } tbody th { font-weight: 400; } th[scope=rowgroup] { font-weight: 600; padding-top: .6rem; }
tbody th[scope=row] { padding-left: .8rem; }
figure { margin: 0 0 1.8rem; } figure img { display: block; max-width: 100%; height: auto; background: #fff; padding: .4rem; }
figure .scroll { margin: 0; } figcaption { color: var(--soft); font-size: .9rem; max-width: 46rem; margin-top: .3rem; }
pre { font-size: .74rem; line-height: 1.35; background: var(--shade); padding: .8rem; }
@media (max-width: 40rem) {
  .wide img { max-width: none; width: 44rem; } dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; }
}
@media print {
  body { font-size: 10pt; } main { max-width: none; padding: 0; } .scroll { overflow: visible; } table { font-size: 7.5pt; }
  th, td { padding: .1rem .3rem; } pre { font-size: 6.2pt; white-space: pre-wrap; } tr, figure, .verdict { break-inside: avoid; }
  h2 { break-after: avoid; }
}
"""
