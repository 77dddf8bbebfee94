"""Run notebooks from the first cell to the last, in place, and leave nothing of this machine in them.

    python tools/run_notebooks.py              all of notebooks/
    python tools/run_notebooks.py 02 03        those whose names begin so
    python tools/run_notebooks.py --check 02   run, complain, write nothing

A notebook that raises, writes to stderr or warns is not written, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
MOST_KILOBYTES = 600
CELL_SECONDS = 300
COLOURS = 128
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def main(words: list[str] | None = None) -> int:
    """Run the notebooks that are named; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="beginnings of names; none for all")
    parser.add_argument("--check", action="store_true", help="run, and write nothing")
    asked = parser.parse_args(words)
    paths = [
        p for p in sorted(FOLDER.glob("*.ipynb")) if p.name.startswith(tuple(asked.names or [""]))
    ]
    if not paths:
        print(f"No notebook begins with {' or '.join(asked.names)}.")
        return 1
    return max([run(path, write=not asked.check) for path in paths])


def run(path: Path, *, write: bool) -> int:
    """Run one notebook in a fresh kernel, say how it went, and write it if all is well."""
    started = time.perf_counter()
    notebook = tidy(execute(path))
    found = complaints(notebook)
    text = as_text(notebook)
    size = len(text.encode()) / 1000
    if size > MOST_KILOBYTES:
        found.append(f"{size:.0f} kB, more than {MOST_KILOBYTES}")
    print(f"{path.name}: {time.perf_counter() - started:.0f} s, {size:.0f} kB")
    for complaint in found:
        print(f"  {complaint}")
    if write and not found:
        path.write_text(text, encoding="utf-8")
    return int(bool(found))


def execute(path: Path) -> dict[str, Any]:
    """The notebook with its outputs, up to the first error; hierpool is that of this checkout."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    places = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    where = {"metadata": {"path": str(FOLDER)}}
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        resources=where,
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],
    )
    with contextlib.suppress(CellExecutionError):  # the traceback is the output of its cell
        client.execute(env=env)
    result: dict[str, Any] = json.loads(nbformat.writes(notebook))
    return result


def complaints(notebook: dict[str, Any]) -> list[str]:
    """What a reader should not see: errors, stderr, warnings."""
    found = []
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            said = text_of(output)
            if output["output_type"] == "error":
                found.append(f"cell {cell['id']}: {output['ename']}: {output['evalue']}")
            elif output.get("name") == "stderr" or "Warning:" in said:
                found.append(f"cell {cell['id']}: {said.strip()}")
    return found


def text_of(output: dict[str, Any]) -> str:
    """What an output says in words."""
    data = output.get("data", {})
    parts = [output.get("text", ""), data.get("text/plain", ""), data.get("text/html", "")]
    return "\n".join("".join(part) for part in parts)


def tidy(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook without counts, times and versions; a tidy one comes back as it is."""
    cells = [_tidy_cell(cell, k) for k, cell in enumerate(notebook["cells"])]
    return {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}


def _tidy_cell(cell: dict[str, Any], k: int) -> dict[str, Any]:
    kind = cell["cell_type"]
    kept = {
        "cell_type": kind,
        "id": cell.get("id") or f"cell-{k + 1}",
        "metadata": {},
        "source": cell["source"],
    }
    if kind == "code":
        outputs = [_tidy_output(output) for output in cell["outputs"]]
        kept |= {"execution_count": None, "outputs": outputs}
    return kept


def _tidy_output(output: dict[str, Any]) -> dict[str, Any]:
    output = dict(output)
    if "execution_count" in output:
        output["execution_count"] = None
    if "metadata" in output:
        output["metadata"] = {}
    if "image/png" in output.get("data", {}):
        output["data"] = {"image/png": with_palette(output["data"]["image/png"])}
    return output


def with_palette(png: str) -> str:
    """The picture in 128 colours, a third of the size; one that has a palette comes back as it is."""
    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    if picture.mode == "P":
        return png
    white = Image.new("RGBA", picture.size, "white")
    flat = Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    buffer = io.BytesIO()
    flat.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def as_text(notebook: dict[str, Any]) -> str:
    """The file, laid out as nbformat does."""
    return json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
