"""What the documentation's site needs beyond mkdocs: executed tutorials, and links to files outside of docs.

Every page of ``docs/tutorials`` is a notebook in Markdown: its Python and bash blocks are run in one kernel, in
order, and what they print or show stands below them. A block that fails fails the build. The executed notebook lies
beside its page. Links that lead out of ``docs`` are followed: Markdown becomes a page, another file a download.
"""

from __future__ import annotations

import html
import os
import posixpath
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
OUTSIDE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md")
SETUP = """
import altair, warnings
altair.renderers.enable("svg")
warnings.filterwarnings("ignore", "IProgress not found")
"""
"""Runs first in every kernel: charts as SVG, since the page must need no network; no word on missing widgets."""

WORKER = '<script src="https://unpkg.com/iframe-worker/shim"></script>'
"""What the theme fetches so that its search works on pages that are opened from the disk."""

_shown: dict[str, list[str]] = {}
_notebooks: dict[str, str] = {}


def on_files(files: Any, config: Any) -> Any:
    """Add the files outside of docs that pages link to."""
    wanted = set(OUTSIDE)
    pages = [(f"docs/{file.src_uri}", Path(file.abs_src_path)) for file in files.documentation_pages()]
    pages += [(name, ROOT / name) for name in OUTSIDE]
    for name, path in pages:
        for _, target, _ in LINK.findall(path.read_text(encoding="utf-8")):
            linked = _in_repository(name, target)
            if linked is not None and not linked.startswith("docs/") and (ROOT / linked).is_file():
                wanted.add(linked)
    for name in sorted(wanted):
        files.append(File.generated(config, f"repository/{name}", abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Send links to where the site has their targets; execute a tutorial."""
    uri = page.file.src_uri
    name = uri.removeprefix("repository/") if uri.startswith("repository/") else f"docs/{uri}"

    def moved(match: re.Match[str]) -> str:
        linked = _in_repository(name, match[2])
        if linked is None:
            return match[0]
        target = linked.removeprefix("docs/") if linked.startswith("docs/") else f"repository/{linked}"
        return match[1] + posixpath.relpath(target, posixpath.dirname(uri) or ".") + match[3]

    markdown = LINK.sub(moved, markdown)
    return _executed(markdown, uri) if uri.startswith("tutorials/") else markdown


def on_page_content(content: str, page: Any, config: Any, files: Any) -> str:
    """Put the outputs of a tutorial in their places."""
    uri = page.file.src_uri
    for i, shown in enumerate(_shown.get(uri, [])):
        content = content.replace(f'<div class="output" data-output="{i}"></div>', shown)
    if uri in _notebooks:
        link = (
            f'<p class="download"><a href="{Path(uri).stem}.ipynb" download>This page as a notebook</a></p>'
        )
        content = content.replace("</h1>", f"</h1>{link}", 1)
    return content


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Take the worker of the search from our own file, and refuse a page that would fetch anything."""
    depth = page.file.url.count("/")
    output = output.replace(WORKER, f'<script src="{"../" * depth}site/worker.js"></script>')
    fetched = re.findall(r"""<(?:script|link|img)[^>]+(?:src|href)=["']?https?:[^>]*>""", output)
    if fetched:
        raise PluginError(f"{page.file.src_uri} would fetch {fetched[0]}; the pages must need no network")
    return output


def on_post_build(config: Any) -> None:
    """Write the executed notebooks beside their pages."""
    for uri, text in _notebooks.items():
        (Path(config["site_dir"]) / uri).with_suffix(".ipynb").write_text(text, encoding="utf-8")


def _in_repository(name: str, target: str) -> str | None:
    """Return a link's target as a path in the repository; None for an address, or what lies outside of it."""
    if ":" in target or target.startswith(("/", "#")):
        return None
    linked = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
    return None if linked.startswith("..") else linked


def _executed(markdown: str, uri: str) -> str:
    """Run a page's blocks in one kernel and return the page with places for their outputs."""
    import jupytext
    import nbformat
    from nbclient import NotebookClient

    notebook = jupytext.reads(markdown, fmt="md")
    notebook.cells.insert(0, nbformat.v4.new_code_cell(SETUP))
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "COLUMNS": "90",
        "PYTHONWARNINGS": "error::UserWarning",
    }
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}})
        client.execute(env=environment)
    del notebook.cells[0]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs, folder)
    _notebooks[uri] = nbformat.writes(notebook)
    shown: list[str] = []
    parts: list[str] = []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            parts.append(cell.source)
            continue
        shell = cell.source.startswith("%%bash\n")
        source = cell.source.removeprefix("%%bash\n")
        parts.append(f"```{'bash' if shell else 'python'}\n{source}\n```")
        if cell.outputs:
            parts.append(f'<div class="output" data-output="{len(shown)}"></div>')
            shown.append(f'<div class="output">{"".join(map(_html, cell.outputs))}</div>')
    _shown[uri] = shown
    return "\n\n".join(parts)


def _joined(outputs: list[Any], folder: str) -> list[Any]:
    """Return a cell's outputs with neighbouring pieces of one stream as one, and paths as seen from its folder."""
    joined: list[Any] = []
    for output in outputs:
        if output.output_type == "stream":
            output.text = output.text.replace(f"{folder}/", "")
            if joined and joined[-1].output_type == "stream" and joined[-1].name == output.name:
                joined[-1].text += output.text
                continue
        joined.append(output)
    return joined


def _html(output: Any) -> str:
    """Return one output of a cell as HTML: what it shows where it shows something, else its text."""
    if output.output_type == "stream":
        return f"<pre><code>{html.escape(output.text)}</code></pre>"
    data = output.data
    for kind in ("text/html", "image/svg+xml"):
        if kind in data:
            return f'<div class="shown">{data[kind]}</div>'
    return f"<pre><code>{html.escape(data['text/plain'])}</code></pre>"
