"""Put the repository address everywhere it is needed.

    python tools/repository.py https://github.com/ada/snn-book

The address in use stands in ``pyproject.toml``; every other place is a copy
that this script keeps equal, and ``tests/test_book.py`` holds it so.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = ("pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff")
FOLDERS = (("book", (".md", ".ipynb", ".yml")), (".github", (".yml", ".md")))
ADDRESS = re.compile(r"https://github\.com/([A-Za-z0-9-]+)/([A-Za-z0-9._-]+?)(?:\.git)?/?")


def current() -> tuple[str, str]:
    """Read owner and name of the repository from ``pyproject.toml``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return parse(project["urls"]["Repository"])


def parse(url: str) -> tuple[str, str]:
    """Split an address such as https://github.com/OWNER/REPO into its two names."""
    match = ADDRESS.fullmatch(url)
    if not match:
        raise ValueError(f"not an address like https://github.com/OWNER/REPO: {url!r}")
    return match[1], match[2]


def pages(owner: str, name: str) -> str:
    """Give the address at which GitHub Pages shows the site of a repository."""
    host = f"{owner}.github.io"
    return f"https://{host}/" if name == host else f"https://{host}/{name}/"


def files() -> list[Path]:
    """List the files that may hold the address."""
    found = [ROOT / name for name in FILES if (ROOT / name).exists()]
    for folder, suffixes in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if (
                path.suffix in suffixes
                and "_build" not in path.parts
                and "vendor" not in path.parts
            ):
                found.append(path)
    return found


def spread(url: str) -> list[Path]:
    """Write ``url`` wherever the present address stands; return the changed files."""
    (owner, name), (new_owner, new_name) = current(), parse(url)
    changed = []
    for path in files():
        text = path.read_text(encoding="utf-8")
        new = text.replace(pages(owner, name), pages(new_owner, new_name))
        new = re.sub(rf"\b{owner}/{re.escape(name)}(?![\w-])", f"{new_owner}/{new_name}", new)
        if new != text:
            path.write_text(new, encoding="utf-8")
            changed.append(path)
    return changed


def main() -> None:
    """Take the address from the command line, or show the present one."""
    if len(sys.argv) != 2:
        owner, name = current()
        sys.exit(f"The address is https://github.com/{owner}/{name}\nuse: make repository URL=...")
    for path in spread(sys.argv[1]):
        print("changed", path.relative_to(ROOT))


if __name__ == "__main__":
    main()
