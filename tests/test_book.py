"""The book as files: contents, chapters, addresses, versions, workflows."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import notebooks
import pytest
import repository
import yaml
from chapter_rules import (
    CHAPTER_RULES,
    NOTEBOOK_RULES,
    colab_setup,
    stems_in_arrays,
    typed_percentages,
)
from packaging.requirements import Requirement
from percentages import ALLOWED, allowed_in, unfounded

from snnlib.records.ledger import read_ledger

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
CHAPTERS = sorted((BOOK / "chapters").glob("*.ipynb"))
NOTEBOOKS = notebooks.notebooks()
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
OWNER, NAME = repository.current()


def pages_in_toc() -> list[str]:
    """List the pages of the table of contents."""
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"], *(page["file"] for part in toc["parts"] for page in part["chapters"])]


def config() -> dict:
    """Read the settings of the site."""
    return yaml.safe_load((BOOK / "_config.yml").read_text(encoding="utf-8"))


def project() -> dict:
    """Read the settings of the package."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def names(requirements: list[str]) -> set[str]:
    """Strip versions and extras from requirements."""
    return {re.split(r"[\[<>=!~ ]", line)[0].lower() for line in requirements}


# Contents


def test_every_page_of_the_contents_exists_once():
    for page in pages_in_toc():
        found = [s for s in (".md", ".ipynb") if (BOOK / f"{page}{s}").exists()]
        assert len(found) == 1, f"{page}: {found}"


def test_every_chapter_and_page_is_in_the_contents():
    sources = [*CHAPTERS, *BOOK.glob("*.md"), *BOOK.glob("*.ipynb")]
    written = {path.relative_to(BOOK).with_suffix("").as_posix() for path in sources}
    assert written == set(pages_in_toc())


def test_chapters_are_numbered_without_a_gap():
    assert [path.name[:2] for path in CHAPTERS] == [f"{i + 1:02}" for i in range(len(CHAPTERS))]


def test_links_between_pages_lead_to_files_and_notebooks_stay_notebooks():
    for path in [*NOTEBOOKS, *BOOK.glob("*.md")]:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            text = "\n".join(c.source for c in notebooks.read(path).cells)
        for target in re.findall(r"\]\((?!https?:|#|mailto:|attachment:)([^)#\s]+)", text):
            if re.search(r"\.(md|ipynb|svg|png|bib)$", target):
                assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_tables_made_by_cells_are_tables_on_the_page():
    cells = [c for path in CHAPTERS for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
    made = [o["data"].get("text/markdown", "") for c in cells for o in c.outputs if "data" in o]
    assert any("| --- |" in text for text in made)
    assert config()["sphinx"]["config"]["nb_render_markdown_format"] == "gfm"  # else raw bars


# Chapters: the rules are told in tools/chapter_rules.py


@pytest.mark.parametrize("rule", CHAPTER_RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_keeps_the_rule(path, rule):
    assert not list(rule(notebooks.read(path)))


@pytest.mark.parametrize("rule", NOTEBOOK_RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", sorted(BOOK.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_page_that_runs_keeps_the_rule(path, rule):
    assert not list(rule(notebooks.read(path)))


@pytest.mark.parametrize(
    ("call", "n_found"),
    [
        ("ax.stem(steps, run.spikes)", 2),
        ("ax.stem(torch.arange(4), run.spikes.numpy(), label='S')", 1),
        ("ax.stem(steps.numpy(), run.spikes.tolist())", 0),
        ("ax.stem(range(4), [0, 1, 0, 1])", 0),
        ("print(path.stem)", 0),
    ],
)
def test_a_tensor_given_to_stem_is_found(call, n_found):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(call)])
    assert len(list(stems_in_arrays(notebook))) == n_found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_cell_installs_the_package_in_colab(path):
    assert not list(colab_setup(notebooks.read(path), OWNER, NAME))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_in_its_steady_form(path):
    stored = path.read_text(encoding="utf-8")
    assert stored.strip() == nbformat.writes(notebooks.steady(notebooks.read(path))).strip()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_valid_and_below_two_megabytes(path):
    nbformat.validate(json.loads(path.read_text(encoding="utf-8")))
    assert path.stat().st_size < 2_000_000


def test_the_book_has_at_least_twenty_figures():
    cells = [cell for path in NOTEBOOKS for cell in notebooks.read(path).cells]
    assert sum("image/png" in json.dumps(cell.get("outputs", [])) for cell in cells) >= 20


def test_equation_numbers_and_figure_names_are_used_once():
    text = "\n".join(path.read_text(encoding="utf-8") for path in NOTEBOOKS)
    tags = re.findall(r"\\\\tag\{([\d.]+)\}", text)
    figures = [
        cell.metadata["mystnb"]["figure"]["name"]
        for path in NOTEBOOKS
        for cell in notebooks.read(path).cells
        if "name" in cell.metadata.get("mystnb", {}).get("figure", {})
    ]
    for used in (tags, figures):
        assert sorted(used) == sorted(set(used))


# Percentages: tools/percentages.py tells which ones may be typed


@pytest.mark.parametrize("path", [ROOT / "README.md", *BOOK.glob("*.md")], ids=lambda p: p.name)
def test_a_page_types_no_percentage(path):
    assert not list(unfounded(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "planted",
    [
        "We reach 97.1 % now.",
        "about ninety percent of them",
        "from 12 to 13.5 per cent",
        r"a share of $97\%$",
        "测试集97.1%准确度",
        "It reaches 92.89 %.",  # claimed, but nobody is named who claimed it
        "Chance is 10 %, and 95 % of them",
    ],
)
def test_a_planted_percentage_is_found(planted):
    assert list(unfounded(f"Words before.\n\n## {planted}\n\nThe post after."))


@pytest.mark.parametrize(
    "founded",
    [
        "The first post says 92.89 % and 93.48 %.",
        'The claim: "最高测试准确率 92.89%"',
        "with its 95 % interval",
        "no per cent at all, 97 of 100",
    ],
)
def test_a_founded_percentage_is_let_through(founded):
    assert not list(unfounded(founded))


def test_a_result_of_the_ledger_may_be_told_to_two_decimals():
    results = [record.result for record in read_ledger()]
    told = {f"{100 * x:.2f}" for r in results for x in (r.accuracy, r.low, r.high)}
    assert not list(unfounded(f"We measured {100 * results[0].accuracy:.2f} %."))
    other = next(f"{n / 100:.2f}" for n in range(5000, 10000) if f"{n / 100:.2f}" not in told)
    assert list(unfounded(f"We measured {other} %."))


def test_a_percentage_is_found_in_captions_and_alt_text():
    notebook = notebooks.read(CHAPTERS[0])
    assert not list(typed_percentages(notebook))
    cell = next(c for c in notebook.cells if "image" in c.metadata.get("mystnb", {}))
    cell.metadata["mystnb"]["image"]["alt"] += " The curve ends at 97.1 percent."
    assert len(list(typed_percentages(notebook))) == 1


def test_every_allowed_percentage_is_still_in_use():
    texts = [(BOOK / "index.md").read_text(encoding="utf-8")]
    texts += [
        f"{cell.source} {json.dumps(cell.metadata, ensure_ascii=False)}"
        for path in NOTEBOOKS
        for cell in notebooks.read(path).cells
    ]
    assert set().union(*map(allowed_in, texts)) == set(ALLOWED)


# One address, one version, one list of dependencies


@pytest.mark.parametrize("path", repository.files(), ids=lambda path: path.name)
def test_the_repository_address_is_the_same_everywhere(path):
    text = path.read_text(encoding="utf-8")
    for owner, name in re.findall(r"git\+https://github\.com/([\w-]+)/([\w-]+)", text):
        assert (owner, name) == (OWNER, NAME)
    for owner, name in re.findall(r"colab\.research\.google\.com/github/([\w-]+)/([\w-]+)", text):
        assert (owner, name) == (OWNER, NAME)


def test_the_site_and_the_citation_name_the_repository_of_pyproject():
    address, site = f"https://github.com/{OWNER}/{NAME}", repository.pages(OWNER, NAME)
    settings = config()
    assert settings["repository"]["url"] == address
    assert settings["html"]["baseurl"] == site
    assert settings["sphinx"]["config"]["ogp_site_url"] == site
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["repository-code"], citation["url"]) == (address, site)


def test_an_address_that_is_none_is_refused():
    for wrong in ("OWNER/REPO", "https://github.com/OWNER", "https://example.org/a/b"):
        with pytest.raises(ValueError, match=r"https://github\.com/OWNER/REPO"):
            repository.parse(wrong)


def test_spreading_an_address_reaches_every_copy_and_comes_back(tmp_path, monkeypatch):
    sample = tmp_path / "pyproject.toml"
    (tmp_path / "book").mkdir()
    monkeypatch.setattr(repository, "ROOT", tmp_path)
    sample.write_text('[project.urls]\nRepository = "https://github.com/OWNER/REPO"\n')
    (tmp_path / "book" / "a.md").write_text("https://OWNER.github.io/REPO/ OWNER/REPO OWNER/REPOS")
    before = (tmp_path / "book" / "a.md").read_text()

    repository.spread("https://github.com/ada/ada.github.io")
    assert repository.current() == ("ada", "ada.github.io")
    changed = (tmp_path / "book" / "a.md").read_text()
    assert changed == "https://ada.github.io/ ada/ada.github.io OWNER/REPOS"

    repository.spread("https://github.com/OWNER/REPO")
    assert (tmp_path / "book" / "a.md").read_text() == before


def test_the_version_is_the_same_everywhere():
    init = (ROOT / "src" / "snnlib" / "__init__.py").read_text(encoding="utf-8")
    version = project()["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert f'__version__ = "{version}"' in init
    assert citation["version"] == version
    assert re.search(rf"^## .*{re.escape(version)}", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_constraints_hold_names_and_versions_only():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for line in lines:
        assert re.fullmatch(r"[a-z0-9._-]+==[A-Za-z0-9.+!]+", line), line
    pinned = {line.split("==")[0] for line in lines}
    wanted = project()["dependencies"] + [
        line for extra in ("book", "test") for line in project()["optional-dependencies"][extra]
    ]
    assert names(wanted) <= pinned
    assert "jupyter-book==1.0.4.post1" in lines


def test_every_dependency_has_a_lower_bound_that_make_lowest_check_can_install():
    extras = project()["optional-dependencies"]
    for line in project()["dependencies"] + extras["book"] + extras["test"] + extras["bench"]:
        assert re.search(r"(>=|==)\d", line), line


def test_colabs_own_versions_are_within_the_bounds_so_that_nothing_is_replaced():
    text = (ROOT / "tools" / "colab-pins.txt").read_text(encoding="utf-8")
    pins = dict(line.split("==") for line in text.splitlines() if not line.startswith("#"))
    wanted = [Requirement(line) for line in project()["dependencies"]]
    found = {r.name for r in wanted if r.name in pins}
    assert {"torch", "torchvision", "numpy", "numba", "matplotlib"} <= found
    for one in wanted:
        assert one.specifier.contains(pins.get(one.name, "9999")), (str(one), pins[one.name])


def test_conda_users_install_the_same_project_with_the_same_list():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [line for line in environment["dependencies"] if isinstance(line, str)]
    (pip,) = [line["pip"] for line in environment["dependencies"] if isinstance(line, dict)]
    assert environment["name"] == "snnlib"
    assert conda == ["python" + project()["requires-python"], "pip"]
    assert pip == ["-c constraints.txt", "-e .[book,test]"]


# Continuous integration and other forms


def test_there_are_three_workflows():
    assert [path.stem for path in WORKFLOWS] == ["ci", "pages", "weekly"]


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("vendor.dependabot", [ROOT / ".github" / "dependabot.yml"]),
        ("vendor.citation-file-format", [ROOT / "CITATION.cff"]),
    ],
)
def test_the_files_fit_their_published_schema(schema, files):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *files]
    shown = subprocess.run(command, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stdout + shown.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_pins_its_actions_and_asks_for_little(path):
    text = path.read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    for action in re.findall(r"uses: (\S+)", text):
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action), action
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 90
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout"):
                assert step["with"] == {"persist-credentials": False}
            assert "${{ github.event" not in step.get("run", "")


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem
)
def test_an_issue_form_has_what_a_form_needs(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.stem == "config":
        assert form["contact_links"][0]["url"].startswith(repository.pages(OWNER, NAME))
        return
    assert form["name"]
    assert form["description"]
    for field in form["body"]:
        assert field["type"] in {"markdown", "input", "textarea", "dropdown", "checkboxes"}
        assert field["attributes"]["label"]


# The site


def test_nothing_large_or_foreign_is_loaded_by_every_page():
    # Jupyter Book adds every .js below _static to every page.
    scripts = [p for p in (BOOK / "_static").rglob("*") if p.suffix in {".js", ".css"}]
    assert sum(path.stat().st_size for path in scripts) < 10_000
    assert not any("http" in path.read_text(encoding="utf-8") for path in scripts)


def test_mathjax_is_in_the_book_with_its_licence():
    vendor = BOOK / "_extra" / "vendor" / "mathjax"
    assert (vendor / "tex-mml-chtml.js").stat().st_size > 1_000_000
    assert "Apache License" in (vendor / "LICENSE").read_text(encoding="utf-8")
    assert config()["sphinx"]["config"]["mathjax_path"] == "../vendor/mathjax/tex-mml-chtml.js"


def test_a_failed_or_noisy_cell_fails_the_build():
    execute = config()["execute"]
    assert execute["execute_notebooks"] == "cache"
    assert execute["raise_on_error"] is True
    assert execute["stderr_output"] == "remove-warn"
    assert execute["run_in_temp"] is True


def test_the_execution_cache_is_emptied_when_a_version_changes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BOOK / "_ext")
    import bookfix

    (tmp_path / ".jupyter_cache").mkdir()
    assert bookfix.refresh_cache(tmp_path)
    assert not (tmp_path / ".jupyter_cache").exists()
    assert not bookfix.refresh_cache(tmp_path)

    monkeypatch.setattr(bookfix, "_version", lambda name: "another")
    assert bookfix.refresh_cache(tmp_path)


def test_no_file_names_a_machine_or_a_registry():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout
    # Put together from parts, or these lines would look like such an address themselves.
    registry = "|".join(("index" + "-url", "/" + r"simple\b"))
    wrong = re.compile(r"(?<![\w.:/~])/(?:home|root|work)/\w|" + registry)
    for name in listed.splitlines():
        path = ROOT / name
        if path.suffix in {".toml", ".txt", ".yml", ".cfg", ".sh", ""} and "vendor" not in name:
            assert not wrong.search(path.read_text(encoding="utf-8", errors="ignore")), name
