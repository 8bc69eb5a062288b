"""A comparison as files: a picture, JSON, and one HTML page that holds everything and fetches nothing."""

from __future__ import annotations

import base64
import html
import io
import json

from PIL.Image import Image

from i2idist import storage
from i2idist.evaluate.compare import Compared, comparison_table

_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{border-bottom:1px solid #ddd;padding:.35rem .8rem;"
    "text-align:left;vertical-align:top}td{font-variant-numeric:tabular-nums}code{font-size:.85em}"
    ".sheet{overflow-x:auto}small{color:#666}"
)


def write_comparison(found: Compared, out: str) -> dict[str, str]:
    """Write `comparison.png`, `comparison.json` and `comparison.html` into the folder `out`, at any storage URL.

    Returns:
        The files' URLs, by ending.

    Raises:
        StorageError: storage refuses, or can't be reached.
    """
    files = {
        "png": _png(found.picture),
        "json": json.dumps(found.as_json(), indent=1).encode(),
        "html": page(found).encode(),
    }
    urls = {ending: storage.join(out, f"comparison.{ending}") for ending in files}
    for ending, data in files.items():
        storage.write_bytes(urls[ending], data)
    return urls


def page(found: Compared) -> str:
    """The comparison as one HTML page."""
    heads, *lines = comparison_table(found)
    picture = base64.b64encode(_png(found.picture)).decode()
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Models compared</title><style>{_STYLE}</style>'
        f"<h1>Models compared</h1>{_models(found)}"
        f"<table>{_row('th', heads)}{''.join(_row('td', line) for line in lines)}</table>"
        "<p><small>95 % intervals. Against A: the difference on the same inputs and codes; it is real "
        "where its interval leaves out 0.</small></p>"
        f'<div class="sheet"><img alt="Inputs and outputs" src="data:image/png;base64,{picture}"></div>'
        f"{_records(found)}</html>\n"
    )


def _models(found: Compared) -> str:
    items = "".join(
        f"<li><b>{letter}</b> {html.escape(label)} <code>{html.escape(one.model.uri)}</code></li>"
        for (letter, label), one in zip(found.labels.items(), found.evaluated, strict=True)
    )
    return f"<ul>{items}</ul>"


def _row(kind: str, cells: list[str]) -> str:
    return f"<tr>{''.join(f'<{kind}>{html.escape(cell)}</{kind}>' for cell in cells)}</tr>"


def _records(found: Compared) -> str:
    text = html.escape(json.dumps(found.as_json(), indent=1))
    return f"<details><summary>Every value's record</summary><pre>{text}</pre></details>"


def _png(picture: Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
