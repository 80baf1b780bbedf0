"""The pages read easily, their links lead somewhere, and the commands and fields that they name exist."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from bench.__main__ import SUBCOMMANDS, build_parser
from debiaspl import train
from debiaspl.__main__ import COMMANDS
from tests.support import markdown

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "dev/LOG.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
WORDS_OF_A_SENTENCE, WORDS_OF_A_PARAGRAPH = 30, 60

every_page = pytest.mark.parametrize("page", PAGES)


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@every_page
def test_sentences_and_paragraphs_are_short(page):
    for paragraph in markdown.paragraphs(text_of(page)):
        assert len(paragraph.split()) <= WORDS_OF_A_PARAGRAPH, paragraph
        for sentence in markdown.sentences(paragraph):
            assert len(sentence.split()) <= WORDS_OF_A_SENTENCE, sentence


@every_page
def test_links_lead_somewhere(page):
    for link in markdown.links(text_of(page)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page} links to {link}"
        if anchor:
            assert anchor in markdown.anchors(target.read_text(encoding="utf-8")), f"{page} links to {link}"


def test_every_page_of_the_folder_is_on_the_index():
    index = text_of("docs/index.md")
    for path in (ROOT / "docs").glob("*.md"):
        assert path.stem == "index" or re.search(rf"^{path.stem}$", index, re.MULTILINE), path


@every_page
def test_commands_exist(page):
    for words in markdown.commands(text_of(page)):
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", text_of("Makefile"), re.MULTILINE), words
        elif words[0] == "debiaspl":
            check_module(["python", "-m", COMMANDS[words[1]][0], *words[2:]])
        elif "-m" in words:
            check_module(words)
        elif words[0] == "python":
            check_options(Path(words[1]), words[2:])
        else:
            assert (ROOT / words[0]).exists(), words


def check_module(words: list[str]) -> None:
    """The module's own parser takes the command, and the recipe has the fields that it sets."""
    at = words.index("-m")
    module, arguments = words[at + 1], words[at + 2 :]
    if module == "debiaspl.train":
        train.chosen_recipe(train.build_parser().parse_args(arguments))
    elif module.startswith("debiaspl."):
        import_module(module).build_parser().parse_args(arguments)
    else:
        assert module == "bench", words
        assert arguments[0] in SUBCOMMANDS, words
        build_parser(arguments).parse_args(arguments)
    if words[0] == "torchrun":
        assert "--standalone" in words or "c10d" in words, "torchrun needs a rendezvous to recover from a dead rank"


def check_options(script: Path, arguments: list[str]) -> None:
    """The script exists and takes the options: its own parser says so, or each is written in it."""
    module = import_module(str(script.with_suffix("")).replace("/", "."))
    if hasattr(module, "build_parser"):
        module.build_parser().parse_args(arguments)
        return
    for word in arguments:
        if word.startswith("--"):
            assert f'"{word}"' in text_of(str(script)), f"{script} has no option {word}"


@every_page
def test_fields_that_are_named_exist(page):
    recipe = train.chosen_recipe(train.build_parser().parse_args([]))
    for field in re.findall(r"(?:--set |`)((?:science|engine|dali|ffcv)\.[a-z_]+)[=`]", text_of(page)):
        section, name = field.split(".")
        assert hasattr(getattr(recipe, section, None), name), f"{page} names {field}, which no recipe has"


def test_every_recipe_has_a_row():
    rows = re.findall(r"^\| `([\w-]+)` \|", text_of("docs/imagenet.md"), re.MULTILINE)
    assert set(rows) == {name for name in train.recipes.RECIPES if not name.startswith("demo") and name != "own"}
