"""Writes the pages of docs/ that are made from the program itself: configuration, exports, indices, quantities."""

import sys
import typing
from pathlib import Path

import indices_page
import msgspec

from calibration.quantities import CHANNELS, COUNTERS, DERIVED
from gateway.export import kinds
from gateway.settings import SECTIONS

DOCS = Path(__file__).resolve().parent.parent / "docs"
NOTE = "Generated from the program by `make docs`; `make check` compares.\n\n"


def configuration() -> str:
    """Return the page of the configuration file."""
    page = "# Configuration\n\n" + NOTE
    page += "One TOML file, `gateway.toml`, is all that `lichen run` reads. "
    page += "An unknown key is refused with the nearest known name.\n"
    for section, kind in SECTIONS.items():
        summary = (kind.__doc__ or "").split(": ", 1)[-1]
        page += f"\n## [{section}]\n\n{summary[0].upper()}{summary[1:]}\n\n| key | default | meaning |\n|---|---|---|\n"
        hints = typing.get_type_hints(kind, include_extras=True)
        for field in msgspec.structs.fields(kind):
            meta = next(m for m in hints[field.name].__metadata__ if isinstance(m, msgspec.Meta))
            default = "must be given" if field.default is msgspec.NODEFAULT else f"`{_toml(field.default)}`"
            page += f"| `{field.name}` | {default} | {meta.description} |\n"
    return page


def _toml(value: object) -> str:
    if value is None:
        return "none"
    return msgspec.json.encode(value).decode()


def exports() -> str:
    """Return the page of the exports."""
    page = (
        "# Exports\n\n" + NOTE + "`lichen export KIND --dir DIR` writes CSV: UTC times as ISO 8601, canonical units, "
    )
    page += "empty cells for what is missing.\n"
    for name, kind in kinds.items():
        page += f"\n## {name}\n\nA row is {kind.row}; its time is {kind.label}.\n\n"
        page += "| column | unit | meaning |\n|---|---|---|\n"
        page += "".join(f"| `{c.name}` | {c.unit} | {c.meaning} |\n" for c in kind.columns)
    return page


def quantities() -> str:
    """Return the page of the quantities."""
    page = "# Quantities\n\n" + NOTE
    page += "| channel | what | unit | integers a unit on the wire | plausible |\n|---|---|---|---|---|\n"
    for c in CHANNELS.values():
        page += f"| `{c.name}` | {c.title} | {c.text} | {c.per_unit} | {c.low:g} to {c.high:g} |\n"
    page += "\n| counter | what |\n|---|---|\n" + "".join(f"| `{n}` | {title} |\n" for n, title in COUNTERS.items())
    page += "\n| derived | what | unit |\n|---|---|---|\n"
    return page + "".join(f"| `{d.name}` | {d.title} | {d.text} |\n" for d in DERIVED.values())


def indices() -> str:
    """Return the page of the indices."""
    return indices_page.page(NOTE)


PAGES = {
    "configuration.md": configuration, "exports.md": exports, "indices.md": indices, "quantities.md": quantities,
}  # fmt: skip


def main() -> int:
    """Write the pages; with `--check` only tell which differ."""
    stale = [n for n, make in PAGES.items() if not (DOCS / n).exists() or (DOCS / n).read_text("utf-8") != make()]
    if "--check" in sys.argv:
        if stale:
            print(f"out of date: {', '.join(stale)}; run: make docs", file=sys.stderr)
        return bool(stale)
    for name in stale:
        (DOCS / name).write_text(PAGES[name](), "utf-8")
    print(f"written: {', '.join(stale) or 'nothing, all are current'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
