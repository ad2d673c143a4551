"""What the site's pages take from the package itself, so that they cannot drift: the sentences of the statuses, the notebooks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jaxgmm

NOTEBOOKS = Path(__file__).parents[1]
STATUSES = ("Status", "ComponentStatus", "PosteriorStatus", "InformationStatus", "EvidenceStatus")


def with_sentences(text: str) -> str:
    """The troubleshooting page with each status's sentence quoted under its heading; a member too few or too many is an error."""
    told = {name: [] for name in STATUSES}
    kind, lines = "", []
    for line in text.splitlines():
        lines.append(line)
        if found := re.match(r"## .*`(\w+)`", line):
            kind = found[1]
        elif found := re.match(r"### (\w+)$", line):
            told[kind].append(found[1])
            sentences = {member.name: member.sentence for member in getattr(jaxgmm, kind)}
            lines += ["", f"> {sentences.get(found[1])}"]
    for name, members in told.items():
        expected = [member.name for member in getattr(jaxgmm, name)]
        if members != expected:
            raise ValueError(
                f"the page tells {', '.join(members)} of {name}; {', '.join(expected)} was expected, in this order."
            )
    return "\n".join(lines) + "\n"


def notebooks() -> dict[str, tuple[str, str]]:
    """File name -> title and first paragraph of each notebook."""
    found = {}
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        text = next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        title, _, rest = text.partition("\n")
        paragraph = next((part for part in rest.split("\n\n") if part.strip()), "")
        found[path.name] = title.lstrip("# ").strip(), " ".join(paragraph.split())
    return found


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """mkdocs calls this for each page."""
    if page.file.src_uri == "troubleshooting.md":
        return with_sentences(markdown)
    if page.file.src_uri == "notebooks.md":
        entries = [f"## {title}\n\n{words}\n\n[{name}](files/{name})\n" for name, (title, words) in notebooks().items()]
        return markdown.replace("<!-- the notebooks -->", "\n".join(entries))
    return markdown


def on_files(files: Any, *, config: Any) -> Any:
    """The notebooks lie beside the pages, to download."""
    from mkdocs.structure.files import File

    for name in notebooks():
        files.append(File.generated(config, f"files/{name}", abs_src_path=str(NOTEBOOKS / name)))
    return files
