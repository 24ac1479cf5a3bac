"""Mend what the theme and the execution cache do wrong, with nothing to set.

Five jobs, each told by its function below:

1. The execution cache knows a notebook by its own cells only. When the
   package, its recorded results or an installed version changes, old outputs
   would stay on the page, so the cache is emptied and all is read again.
2. The theme loads two scripts on every page that this book does not use; one
   of them is 1.4 MB, the other ends in a console error.
3. A picture without a description is a warning, and so fails a strict build.
4. A table too wide for a small screen scrolls, but no key reaches it.
5. Entries of the bibliography carry roles that leave a list without items,
   which confuses screen readers; plain text does not.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

VERSIONS_THAT_MATTER = (
    "torch",
    "torchvision",
    "spikingjelly",
    "numpy",
    "matplotlib",
    "numba",
)
UNUSED_SCRIPTS = (
    re.compile(r"<script>const THEBE_JS_URL.*?</script>\s*", re.S),
    re.compile(
        r'<script[^>]*src="[^"]*sphinx-thebe\.js[^"]*"[^>]*></script>\s*'
    ),
    re.compile(
        r'<script[^>]*src="[^"]*fontawesome\.js[^"]*"[^>]*></script>\s*'
    ),
    re.compile(r'<link[^>]*rel="preload"[^>]*fontawesome\.js[^>]*/?>\s*'),
)
REPLACED = {
    '<table class="table"': '<table tabindex="0" class="table"',
    '<div role="list" class="citation-list">': '<div class="citation-list">',
    ' role="doc-biblioentry"': "",
}
UNUSED_FILES = ("scripts/fontawesome.js", "sphinx-thebe.js")


def input_digest() -> str:
    """Name everything but the notebook that decides what a cell prints."""
    digest = hashlib.sha256()
    for name in VERSIONS_THAT_MATTER:
        digest.update(f"{name}=={_version(name)}\n".encode())
    package = importlib.util.find_spec("snnlib")
    folders = package.submodule_search_locations if package else None
    for folder in folders or ():
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(path.relative_to(folder).as_posix().encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def refresh_cache(build: Path) -> bool:
    """Empty the execution cache below ``build`` if its inputs changed.

    Returns:
        Whether outputs made earlier are stale.
    """
    stamp = build / "executed-with.sha256"
    digest = input_digest()
    if stamp.exists() and stamp.read_text() == digest:
        return False
    shutil.rmtree(build / ".jupyter_cache", ignore_errors=True)
    build.mkdir(parents=True, exist_ok=True)
    stamp.write_text(digest)
    return True


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def empty_stale_cache(app: Sphinx) -> None:
    """Do job 1 before any page is read."""
    app.env.bookfix_stale = refresh_cache(Path(app.outdir).parent)  # type: ignore[attr-defined]


def read_notebooks_again(
    app: Sphinx,
    env: Any,
    added: set[str],
    changed: set[str],
    removed: set[str],
) -> list[str]:
    """Name the notebook pages that a build without ``--all`` would keep."""
    if not getattr(env, "bookfix_stale", False):
        return []
    return [
        name
        for name in env.found_docs
        if env.doc2path(name).endswith(".ipynb")
    ]


def mend_pages(app: Sphinx, error: Exception | None) -> None:
    """Do jobs 2, 4 and 5 on the finished pages."""
    if error or app.builder.format != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        if "_static" in page.parts or "vendor" in page.parts:
            continue
        text = page.read_text(encoding="utf-8")
        new = text
        for old, better in REPLACED.items():
            new = new.replace(old, better)
        for script in UNUSED_SCRIPTS:
            new = script.sub("", new)
        if new != text:
            page.write_text(new, encoding="utf-8")
    for name in UNUSED_FILES:
        (Path(app.outdir) / "_static" / name).unlink(missing_ok=True)


def demand_descriptions(
    app: Sphinx, doctree: nodes.document, docname: str
) -> None:
    """Do job 3: a picture without alt text is a warning, and so an error."""
    for image in doctree.findall(nodes.image):
        if not image.get("alt", "").strip():
            logger.warning(
                "picture without alt text: %s",
                image.get("uri", "?"),
                location=image,
            )


def setup(app: Sphinx) -> dict[str, Any]:
    """Join the hooks to Sphinx."""
    app.connect("builder-inited", empty_stale_cache)
    app.connect("env-get-outdated", read_notebooks_again)
    app.connect("doctree-resolved", demand_descriptions)
    app.connect("build-finished", mend_pages)
    return {
        "version": "1",
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }
