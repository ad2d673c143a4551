"""MkDocs hooks that insert text from the package and the notebooks into the pages, so that the pages stay up to date."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jaxgmm

NOTEBOOKS = Path(__file__).parents[1]
STATUSES = ("Status", "ComponentStatus", "PosteriorStatus", "InformationStatus", "EvidenceStatus")


def with_sentences(text: str) -> str:
    """Return the troubleshooting page with each status's sentence quoted under its heading.

    Raises:
        ValueError: the headings under a status type are not its members, in their order.
    """
    headings = {name: [] for name in STATUSES}
    status_type, lines = "", []
    for line in text.splitlines():
        lines.append(line)
        if match := re.match(r"## .*`(\w+)`", line):
            status_type = match[1]
        elif match := re.match(r"### (\w+)$", line):
            headings[status_type].append(match[1])
            sentences = {member.name: member.sentence for member in getattr(jaxgmm, status_type)}
            lines += ["", f"> {sentences.get(match[1])}"]
    for name, members in headings.items():
        expected = [member.name for member in getattr(jaxgmm, name)]
        if members != expected:
            raise ValueError(
                f"The page has the headings {', '.join(members)} for {name}; {', '.join(expected)} was expected, in this order."
            )
    return "\n".join(lines) + "\n"


def notebooks() -> dict[str, tuple[str, str]]:
    """Return the title and the first paragraph of each notebook by its file name."""
    found = {}
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        text = next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        title, _, rest = text.partition("\n")
        paragraph = next((part for part in rest.split("\n\n") if part.strip()), "")
        found[path.name] = title.lstrip("# ").strip(), " ".join(paragraph.split())
    return found


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return the text of a page with its inserts; MkDocs calls this function for each page."""
    if page.file.src_uri == "troubleshooting.md":
        return with_sentences(markdown)
    if page.file.src_uri == "notebooks.md":
        entries = [f"## {title}\n\n{words}\n\n[{name}](files/{name})\n" for name, (title, words) in notebooks().items()]
        return markdown.replace("<!-- the notebooks -->", "\n".join(entries))
    return markdown


def on_files(files: Any, *, config: Any) -> Any:
    """Add the notebooks to the files of the site, so that they can be downloaded; MkDocs calls this function once."""
    from mkdocs.structure.files import File

    for name in notebooks():
        files.append(File.generated(config, f"files/{name}", abs_src_path=str(NOTEBOOKS / name)))
    return files
