"""One HTML file that opens from disk: its style, its script, its data, and nothing from anywhere else.

Names of files may hold anything. They reach the page as JSON in which no character means anything to HTML, and the
script puts them into the page as text; a content security policy lets no other script, style or address in.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from typing import Any, Final

#: What every page begins with, and no other file.
HEAD: Final = (
    b'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
    b'<meta name="generator" content="streamcluster report">\n'
)

_INERT: Final = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def inert_json(value: Any) -> str:
    r"""Return JSON in ASCII that can stand inside a script element.

    >>> inert_json("</script>\u2028")
    '"\\u003c/script\\u003e\\u2028"'
    """
    return json.dumps(value, allow_nan=False, separators=(",", ":")).translate(_INERT)


def page(
    title: str, data: Any, pictures: Iterable[bytes], figures: Iterable[bytes], sheets: Sequence[bytes]
) -> Iterator[bytes]:
    """Yield the parts of the page.

    Parameters
    ----------
    title : str
    data : what JSON can hold, without NaN
        `report.js` tells what it must be.
    pictures, figures, sheets : files of the kind that `encode.MEDIA_TYPE` names
    """
    body, style, script = (_template(f"report.{ending}") for ending in ("html", "css", "js"))
    yield HEAD
    yield (
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(style, script)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{style}</style>\n{body}"
    ).encode("utf-8", "backslashreplace")
    yield f'<script type="application/json" id="data">{inert_json(data)}</script>\n'.encode()
    for name, lines in (("pictures", pictures), ("figures", figures)):
        yield f'<script type="text/plain" id="{name}">'.encode()
        for i, picture in enumerate(lines):
            yield (b"\n" if i else b"") + base64.b64encode(picture)
        yield b"</script>\n"
    for i, sheet in enumerate(sheets):
        yield f'<script type="text/plain" id="sheet-{i}">'.encode() + base64.b64encode(sheet) + b"</script>\n"
    yield f"<script>{script}</script>\n</html>\n".encode()


def _policy(style: str, script: str) -> str:
    """Return a content security policy (https://www.w3.org/TR/CSP3) that allows this style and this script alone."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_source_of(style)}'; script-src '{_source_of(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _source_of(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _template(name: str) -> str:
    return (files("streamcluster.show") / name).read_text(encoding="utf-8")
