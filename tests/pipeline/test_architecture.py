"""The engine is built as ``docs/architecture.md`` says, and what that page and the README say of it is true."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PAGE, README = ROOT / "docs" / "architecture.md", ROOT / "README.md"
ROOMS = tuple(f"{path.name}/" for path in ROOT.iterdir() if path.is_dir())
# Made by diffusers and transformers: the mathematics and what a denoiser is told need neither.
MODEL_LIBRARIES = {"diffusers", "transformers"}


class Block(NamedTuple):
    """A block of code on a page: what stands behind its backticks, its first line's number, and itself."""

    kind: str
    line: int
    code: str


@cache
def blocks(page: Path = PAGE) -> tuple[Block, ...]:
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return tuple(Block(one[1], text[: one.start()].count("\n") + 2, one[2]) for one in found)


@cache
def imports(*, external: bool = False) -> grimp.ImportGraph:
    """Who imports whom, inside of functions as well, but for what only a type checker sees."""
    return grimp.build_graph(
        "pipeline", include_external_packages=external, exclude_type_checking_imports=True, cache_dir=None
    )


def named_in(text: str) -> Iterator[str]:
    """What stands in backticks and looks like a file or a folder of this repository, with or without ``::test``."""
    for name in re.findall(r"`([^`\s]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)):
        if name.startswith(ROOMS) or re.fullmatch(r"[\w.-]+\.(py|md|toml)(::\w+)?", name):
            yield name


def test_no_import_goes_in_a_circle() -> None:
    graph = imports()
    assert len(graph.modules) > 90
    below = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        graphlib.TopologicalSorter(below).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


@pytest.mark.parametrize("room", ["pipeline.diffusion", "pipeline.conditioning"])
def test_rooms_that_need_no_library_of_models(room: str) -> None:
    graph = imports(external=True)
    for module in (room, *graph.find_descendants(room)):
        assert not graph.find_modules_directly_imported_by(module) & MODEL_LIBRARIES, module


def test_only_backends_ask_a_network_for_its_module() -> None:
    """Whoever calls ``network.module()`` runs it by a way of its own, which no backend could make faster."""
    asking = set()
    for path in (ROOT / "pipeline").rglob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        if any(isinstance(call.func, ast.Attribute) and call.func.attr == "module" and not call.args for call in calls):
            asking.add(path.relative_to(ROOT).parts[1])
    assert asking == {"backends"}


@pytest.mark.parametrize(("page", "least"), [(PAGE, 100), (README, 15)], ids=["architecture", "readme"])
def test_every_path_and_test_that_is_named_is_there(page: Path, least: int) -> None:
    names = list(named_in(page.read_text(encoding="utf-8")))
    assert len(names) >= least
    for name in names:
        path, _, test = name.partition("::")
        assert (ROOT / path).exists(), name
        assert not test or f"\ndef {test}(" in (ROOT / path).read_text(encoding="utf-8"), name


def test_every_file_of_the_engine_is_on_the_page_or_in_its_packages_docstring() -> None:
    page = PAGE.read_text(encoding="utf-8")
    sparse = (ROOT / "pipeline" / "sparse" / "__init__.py").read_text(encoding="utf-8")
    for path in (ROOT / "pipeline").rglob("[!_]*.py"):
        listed = f"``{path.stem}``" in sparse if path.parent.name == "sparse" else str(path.relative_to(ROOT)) in page
        assert listed, path


def test_what_the_page_quotes_is_what_the_file_says() -> None:
    quoted = [block for block in blocks() if block.kind.startswith("python from ")]
    assert quoted
    for block in quoted:
        path = ROOT / block.kind.removeprefix("python from ")
        assert block.code in path.read_text(encoding="utf-8"), f"{PAGE.name}:{block.line}"


def run(page: Path, chosen: list[Block]) -> None:
    """In order, in one namespace, as a reader would type it in."""
    namespace: dict[str, object] = {"__name__": "page"}
    for block in chosen:
        # With its place on the page, so that a failure says which line it was.
        exec(compile("\n" * (block.line - 1) + block.code, str(page), "exec", dont_inherit=True), namespace)


def test_the_code_on_the_page_runs() -> None:
    chosen = [block for block in blocks() if block.kind == "python run"]
    assert {block.kind.split()[0] for block in blocks() if block.kind} == {"python"}
    assert len(chosen) > 5
    run(PAGE, chosen)


def test_the_library_example_of_the_readme_runs() -> None:
    (example,) = [block for block in blocks(README) if block.kind == "python"]
    run(README, [example])
