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


def test_the_page_of_corrections_names_each_and_the_label_it_shows_can_be_used():
    from calibration.assigned import loads
    from calibration.corrections import CORRECTIONS
    from calibration.no2_label import EXAMPLE

    text = (REPO / "docs" / "corrections.md").read_text()
    for one in CORRECTIONS.values():
        name = one.id.removeprefix("airgradient") if f"`{one.id}`" not in text else one.id
        assert f"`{name}`" + "\\*" * bool(one.unverified) in text, one.id
    shown = text.split("```toml\n")[1].split("```")[0]
    assert shown == EXAMPLE
    assert loads(shown, "kit-1").label == "no2-202751234@1"


def test_the_page_of_quality_control_names_every_reason():
    from calibration.flags import Reason

    text = (REPO / "docs" / "qc.md").read_text()
    assert [r.name for r in Reason if r.name and f"`{r.name.lower()}`" not in text] == []
