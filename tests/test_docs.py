"""What the documents point to is there."""

import re

import pytest
from components import REPO

PAGES = sorted(
    [REPO / "README.md", *(REPO / "docs").glob("*.md"), *REPO.glob("*/README.md"), *REPO.glob("tests/*/*.md")]
)


def test_every_test_that_a_guarantee_names_exists():
    text = (REPO / "docs" / "guarantees.md").read_text()
    files = set(re.findall(r"`(tests/[\w/]+\.py)`", text))
    names = set(re.findall(r"`(test_\w+)`", text))
    assert files
    assert names
    assert [f for f in sorted(files) if not (REPO / f).is_file()] == []
    defined = "".join((REPO / f).read_text() for f in files)
    assert [n for n in sorted(names) if f"def {n}(" not in defined] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(REPO)))
def test_every_file_that_a_page_names_exists(page):
    text = page.read_text()
    links = set(re.findall(r"\]\((?!https?:)([^)#\s]+)", text))
    assert [link for link in sorted(links) if not (page.parent / link).exists()] == []
    paths = set(re.findall(r"`((?:gateway|calibration|tools|tests|hardware)/[\w/.]+\.\w+)`", text))
    assert [path for path in sorted(paths) if not (REPO / path).exists()] == []
