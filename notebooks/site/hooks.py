"""MkDocs hooks that insert text from the package and the notebooks into the pages, so that the pages stay up to date."""

from __future__ import annotations

import os
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import nbformat

import jaxgmm

NOTEBOOKS = Path(__file__).parents[1]
CHANGELOG = NOTEBOOKS.parent / "CHANGELOG.md"
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


@cache
def notebooks() -> dict[str, nbformat.NotebookNode]:
    """Return the notebooks by the stems of their file names, as they are stored: without outputs."""
    return {path.stem: nbformat.read(path, as_version=4) for path in sorted(NOTEBOOKS.glob("*.ipynb"))}


def introduction(notebook: nbformat.NotebookNode) -> tuple[str, str]:
    """Return the title and the first paragraph of a notebook."""
    text = next(cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    title, _, rest = text.partition("\n")
    paragraph = next((part for part in rest.split("\n\n") if part.strip()), "")
    return title.lstrip("# ").strip(), " ".join(paragraph.split())


def with_mathml(text: str) -> str:
    """Return Markdown text with its LaTeX formulae replaced by MathML, which browsers show without a script."""
    from latex2mathml.converter import convert

    def display(match: re.Match[str]) -> str:
        return convert(match[1].strip(), display="block")

    def inline(match: re.Match[str]) -> str:
        return f"<span>{convert(match[1])}</span>"  # Markdown takes a line that begins with <math> as a block

    parts = re.split(r"(`[^`\n]+`)", text)  # a dollar sign inside code is no formula
    for i in range(0, len(parts), 2):
        blocks = re.sub(r"\$\$(.+?)\$\$", display, parts[i], flags=re.S)
        parts[i] = re.sub(r"\$([^$]+?)\$", inline, blocks)
    return "".join(parts)


def notebook_page(name: str) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and its pictures by their paths relative to the page.

    If the environment variable EXECUTE_NOTEBOOKS is set, the notebook is run first, which can take minutes. It runs in a
    temporary folder, because some notebooks write files.
    """
    from nbclient import NotebookClient
    from nbconvert import MarkdownExporter

    notebook = nbformat.from_dict(notebooks()[name])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = with_mathml(cell["source"])
    if os.environ.get("EXECUTE_NOTEBOOKS"):
        with tempfile.TemporaryDirectory() as folder:
            NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
    resources = {"unique_key": name, "output_files_dir": f"{name}_files"}
    text, resources = MarkdownExporter().from_notebook_node(notebook, resources=resources)
    title, _, rest = text.partition("\n")
    return f"{title}\n\n[Download this notebook](../files/{name}.ipynb)\n{rest}", resources["outputs"]


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return the text of a page with its inserts; MkDocs calls this function for each page."""
    if page.file.src_uri == "troubleshooting.md":
        return with_sentences(markdown)
    if page.file.src_uri == "notebooks.md":
        introductions = {name: introduction(notebook) for name, notebook in notebooks().items()}
        entries = [f"## [{title}](notebooks/{name}.md)\n\n{words}\n" for name, (title, words) in introductions.items()]
        return markdown.replace("<!-- the notebooks -->", "\n".join(entries))
    if page.file.src_uri == "changelog.md":
        return CHANGELOG.read_text()
    return markdown


def on_files(files: Any, *, config: Any) -> Any:
    """Add the notebooks to the site, as pages and as files to download; MkDocs calls this function once."""
    from mkdocs.structure.files import File

    for name in notebooks():
        text, pictures = notebook_page(name)
        files.append(File.generated(config, f"files/{name}.ipynb", abs_src_path=str(NOTEBOOKS / f"{name}.ipynb")))
        files.append(File.generated(config, f"notebooks/{name}.md", content=text))
        for path, picture in pictures.items():
            files.append(File.generated(config, f"notebooks/{path}", content=picture))
    return files
