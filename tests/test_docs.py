"""The documentation is true: its examples run as they stand, its commands and links lead somewhere.

A comment above a block of Python or of a console says what becomes of it. `<!-- prints: PATTERN -->` runs it, and what it
prints must fit, as must the lines of a console that are not commands. `<!-- not run: REASON -->` does not run it. A block
of Python has one of the two. The blocks of a page run in order, in one folder, where the scenarios of the page are by
their names.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from realtime_client.cli.group import Invocation, realtime
from realtime_client.local.faults import faults_of_file, read_faults

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("recordings/*.md"),
        *ROOT.glob("scripts/**/*.md"),
    )
)
_BLOCK = re.compile(r"^(?:<!-- (prints|not run): (.*?) -->\n)?```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
BLOCK_LIMIT_S = 60


class Block(NamedTuple):
    """A fenced block. mark: `prints`, `not run` or ''; note: the pattern, or the reason."""

    mark: str
    note: str
    language: str
    text: str
    line: int


@functools.cache
def blocks(page: str) -> list[Block]:
    text = read(page)
    return [
        Block(*(group or "" for group in found.groups()), _line(text, found.start())) for found in _BLOCK.finditer(text)
    ]


@functools.cache
def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


RUN = [(page, block) for page in PAGES for block in blocks(page) if block.mark == "prints"]
COMMANDS = [
    (f"{page}:{block.line + number}", line[2:])
    for page in PAGES
    for block in blocks(page)
    if block.language == "console"
    for number, line in enumerate(block.text.splitlines())
    if line.startswith("$ ")
]
YAML = [(f"{page}:{b.line}", b.text) for page in PAGES for b in blocks(page) if b.language == "yaml"]
FAULTS = [each for each in YAML if "\nfaults:" in each[1]]
SCENARIOS = [each for each in YAML if each not in FAULTS]


def test_the_readme_is_short() -> None:
    assert len(read("README.md").split()) <= 900


@pytest.mark.parametrize("page", PAGES)
def test_every_python_block_is_run_or_says_why_not(page: str) -> None:
    for block in blocks(page):
        if block.language == "python":
            least = 20 if block.mark == "not run" else 1
            assert len(block.note) >= least, f"{page}:{block.line}: `prints` with a pattern, or `not run` with a reason"
    marks = len(re.findall(r"^<!-- ", read(page), re.MULTILINE))
    assert marks == sum(bool(block.mark) for block in blocks(page)), f"{page}: a mark that belongs to no block"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of each page."""
    made = {page: tmp_path_factory.mktemp("page") for page in {page for page, _ in RUN}}
    for page, folder in made.items():
        (folder / "scripts").symlink_to(ROOT / "scripts")
        for block in blocks(page):
            if block.language == "yaml":
                (folder / f"{_name(block.text)}.yaml").write_text(block.text, encoding="utf-8")
    return made


@pytest.mark.parametrize(("page", "block"), RUN, ids=[f"{page}:{block.line}" for page, block in RUN])
def test_what_a_block_prints(page: str, block: Block, folders: dict[str, Path]) -> None:
    where, folder = f"{page}:{block.line}", folders[page]
    lines = [line[2:] for line in block.text.splitlines() if line.startswith("$ ")]
    command = {
        "python": [sys.executable, "-W", "error", "-c", block.text],
        "console": ["bash", "-euo", "pipefail", "-c", "\n".join(lines)],
    }[block.language]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PATH": path},
        timeout=BLOCK_LIMIT_S,
    )
    assert done.returncode == 0, f"{where}: ended with {done.returncode}\n{done.stdout}{done.stderr}"
    assert re.search(block.note, done.stdout, re.DOTALL | re.IGNORECASE), f"{where}: printed\n{done.stdout}"
    if block.language == "console":
        shown = [line for line in block.text.splitlines() if line and not line.startswith("$ ")]
        assert [line for line in shown if line not in done.stdout] == [], f"{where}: printed\n{done.stdout}"
    else:
        assert not done.stderr, f"{where}: {done.stderr}"


@pytest.mark.parametrize(("where", "line"), COMMANDS, ids=[where for where, _ in COMMANDS])
def test_the_command_line_knows_every_command(where: str, line: str) -> None:
    found = list(_commands(line))
    assert found, f"{where}: no command"
    for words in found:
        if words[0].startswith(("scripts/", ".ci/")):
            assert os.access(ROOT / words[0], os.X_OK), f"{where}: {words[0]} cannot be run"
        for word in words:
            assert not word.startswith(("scripts/", ".ci/", "tests/")) or (ROOT / word).exists(), f"{where}: {word}"
        if words[0] == "scripts/start" and (words[1:2] == [] or words[1].startswith("-")):
            _parse(where, ["chat", *words[1:]])
        elif words[0] in ("realtime", "scripts/start"):
            _parse(where, words[1:])


def _commands(line: str) -> Iterator[list[str]]:
    """The commands of a line of shell, without redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    skip = False
    for word in lexer:
        if skip or "<" in word or ">" in word:
            skip = not skip
        elif set(word) <= set("|;&"):
            yield words
            words = []
        elif words or "=" not in word:  # else a variable for the command
            words.append(word)
    if words:
        yield words


def _parse(where: str, args: list[str]) -> None:
    """Let the command line read it, without running it."""
    try:
        with realtime.make_context("realtime", [], obj=Invocation()) as context:
            name, command, rest = realtime.resolve_command(context, args)
            assert command is not None
            command.make_context(name, rest, parent=context).close()
    except click.exceptions.Exit:
        pass  # --help, --version
    except click.ClickException as error:
        pytest.fail(f"{where}: {error.format_message()}")


@pytest.mark.parametrize(("where", "text"), SCENARIOS, ids=[where for where, _ in SCENARIOS])
def test_scenarios_are_without_mistakes(where: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "scenario.yaml").write_text(text, encoding="utf-8")
    done = _realtime("check", "scenario.yaml", folder=tmp_path)
    assert done.returncode == 0, f"{where}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize(("where", "text"), FAULTS, ids=[where for where, _ in FAULTS])
def test_files_of_faults_are_without_mistakes(where: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "faults.yaml").write_text(text, encoding="utf-8")
    assert faults_of_file(tmp_path / "faults.yaml").faults, where


def test_faults_of_command_lines_are_without_mistakes() -> None:
    lines = [shlex.split(line, comments=True) for _, line in COMMANDS if "--faults" in line]
    given = [words[at + 1] for words in lines for at, word in enumerate(words) if word == "--faults"]
    texts = [each for each in given if not each.endswith(".yaml")]
    assert len(texts) > 4
    for text in texts:
        assert read_faults([text]).faults


def test_the_scenario_of_the_readme_passes(tmp_path: Path) -> None:
    (scenario,) = [block.text for block in blocks("README.md") if block.language == "yaml"]
    (tmp_path / "weather.yaml").write_text(scenario, encoding="utf-8")
    done = _realtime("run", "--local", "--out", "run", "weather.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "1 of 1 cases passed" in done.stdout


def _realtime(*args: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "realtime_client", *args],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=BLOCK_LIMIT_S,
    )


def _name(scenario: str) -> str:
    found = re.search(r"^name: (\w+)", scenario, re.MULTILINE)
    return found[1] if found else "scenario"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = _BLOCK.sub("", read(page))
    for link in _LINK.findall(text):
        if "://" in link or link.startswith("mailto:"):
            continue
        target, _, heading = link.partition("#")
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), f"{page}: {link} leads nowhere"
        if heading:
            assert heading in _headings(path.read_text(encoding="utf-8")), f"{page}: {link}: no such heading"


def _headings(text: str) -> set[str]:
    """The names by which GitHub links to the headings of a page."""
    lines = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def test_troubles_are_told_as_the_program_tells_them() -> None:
    """What stands as seen in the first column is in the source, numbers and what is left out (`...`) apart."""
    source = "\n".join(_texts())
    rows = [line for line in read("docs/troubles.md").splitlines() if line.startswith("| ") and "you see" not in line]
    seen = [phrase for row in rows for phrase in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
    pieces = [piece.strip() for phrase in seen for piece in re.split(r"\d+|\.\.\.|: | \(|\[|\]", phrase)]
    assert len(pieces) > 50
    assert [piece for piece in pieces if piece not in source] == []


def _texts() -> Iterator[str]:
    for path in (ROOT / "realtime_client").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.ClassDef):
                yield node.name


def test_every_page_can_be_reached_from_the_readme() -> None:
    linked = {link.partition("#")[0] for page in PAGES for link in _LINK.findall(read(page))}
    names = {Path(link).name for link in linked}
    assert {page for page in PAGES if page.startswith("docs/") and Path(page).name not in names} == set()


@pytest.mark.parametrize(
    ("line", "commands"),
    [
        ("realtime say hi  # what for", [["realtime", "say", "hi"]]),
        ("echo a | realtime say > out.txt", [["echo", "a"], ["realtime", "say"]]),
        ('LANG=C realtime say "a; b" && ls', [["realtime", "say", "a; b"], ["ls"]]),
    ],
)
def test_commands_of_a_line(line: str, commands: list[list[str]]) -> None:
    assert list(_commands(line)) == commands
