"""The generated parts of the documentation follow the code."""

from pathlib import Path

import pytest

from statsd.dev import docs

SOURCES = docs.sources()


def test_the_architecture_page_equals_the_output_of_the_command() -> None:
    page = docs.PAGE.read_text()
    assert page == docs.rewritten(page, docs.PARTS), "run `python -m statsd.dev.docs`"


@pytest.mark.parametrize(
    "source", SOURCES, ids=[str(each.relative_to(docs.PACKAGE)) for each in SOURCES]
)
def test_each_module_and_script_begins_with_a_sentence(source: Path) -> None:
    assert docs.summary(source).endswith(".")


def test_the_map_has_a_row_for_every_module_and_script() -> None:
    modules = [*docs.PACKAGE.rglob("*.py"), *docs.PACKAGE.rglob("*.lua")]
    rows = docs.module_map().splitlines()[1:-1]
    assert sorted(SOURCES) == sorted(modules)
    assert len(rows) == len(modules)


def test_only_the_text_between_the_comments_of_a_part_is_replaced() -> None:
    page = "before\n<!-- a -->\nold\n<!-- /a -->\nbetween\n<!-- b -->\nkept\n<!-- /b -->\n"
    new = docs.rewritten(page, {"a": lambda: "new"})
    assert new == page.replace("\nold\n", "\n\nnew\n\n")
    assert docs.rewritten(new, {"a": lambda: "new"}) == new


@pytest.mark.parametrize("page", ["", "<!-- a -->\n", "<!-- /a -->\n<!-- a -->\n"])
def test_a_page_without_the_comments_of_a_part_is_refused(page: str) -> None:
    with pytest.raises(docs.MissingPartError):
        docs.rewritten(page, {"a": lambda: "new"})
