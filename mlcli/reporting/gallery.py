"""An offline HTML page of many rows of images, which load when they come into view; a search box filters the rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlcli.io.files import write_text
from mlcli.reporting.report import STYLE, rows, text

# Rows out of view are neither laid out nor painted (content-visibility), so that thousands of images scroll well.
GALLERY_STYLE = """
body{max-width:none}header{position:sticky;top:0;background:inherit;padding:.5rem 0;z-index:1}
header input{font:inherit;padding:.2rem .5rem;width:16rem}details{margin:.5rem 0}
section{content-visibility:auto;contain-intrinsic-size:auto 20rem;border-top:1px solid #8884;padding:.4rem 0 .4rem 6rem}
section h2{float:left;width:6rem;margin:0 0 0 -6rem;font-size:1rem;overflow-wrap:anywhere}
section figure{margin:0 .8rem .3rem 0;vertical-align:top;width:min(100%,calc(8rem*var(--ratio)))}
section img{width:100%;aspect-ratio:var(--ratio);image-rendering:auto;display:block}figcaption{line-height:1.3}
section[hidden]{display:none}
"""
# `12`, `0-15` and `3, 40-50` choose rows by number, other words by their heading. The text of the box is kept in the
# address of the page (#q=...), so that a view can be shared.
SCRIPT = """
const box = document.querySelector('input'), count = document.querySelector('output');
const all = [...document.querySelectorAll('section')];
function wanted(row, words) {
  return !words.length || words.some(word => {
    const range = word.match(/^(\\d+)(?:-(\\d+))?$/);
    if (!range) return row.querySelector('h2').textContent.toLowerCase().includes(word);
    return +row.dataset.number >= +range[1] && +row.dataset.number <= +(range[2] || range[1]);
  });
}
function filter() {
  const words = box.value.toLowerCase().split(/[\\s,]+/).filter(Boolean);
  let shown = 0;
  for (const row of all) { row.hidden = !wanted(row, words); shown += !row.hidden; }
  count.value = `${shown} of ${all.length}`;
}
box.addEventListener('input', () => {
  history.replaceState(null, '', '#q=' + encodeURIComponent(box.value));
  filter();
});
function arrive() {
  if (location.hash.startsWith('#q=')) box.value = decodeURIComponent(location.hash.slice(3));
  filter();
}
addEventListener('hashchange', arrive);
arrive();
"""


@dataclass(frozen=True)
class GalleryImage:
    """One image of a row: its file, relative to the page, its caption, and its width divided by its height."""

    file: str
    caption: str
    ratio: float = 1.0


@dataclass(frozen=True)
class Row:
    """One row of the page. number: by which the search box finds it."""

    number: int
    heading: str
    images: Sequence[GalleryImage]


def write(page: Path, title: str, entries: Sequence[Row], facts: Mapping[str, Any], note: str = "") -> None:
    """Write the page. note: what the images show. facts: how they were made, shown folded.

    A click on an image opens its file. Without scripts all rows are shown.
    """
    body, count = "".join(_section(entry) for entry in entries), len(entries)
    write_text(
        page,
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{text(title)}</title><style>{STYLE}{GALLERY_STYLE}</style><h1>{text(title)}</h1>"
        + (f"<p>{text(note)}</p>" if note else "")
        + f"<details><summary>How it was made</summary>{rows(dict(facts))}</details>"
        "<header><label>Show <input type=search placeholder='12, 0-15, ...' autocomplete=off></label> "
        f"<output>{count} of {count}</output></header><main>{body}</main><script>{SCRIPT}</script></html>\n",
    )


def _section(entry: Row) -> str:
    figures = "".join(
        f'<figure style="--ratio:{p.ratio:.4g}"><a href="{text(quote(p.file))}"><img loading=lazy '
        f'alt="{text(entry.heading)}, {text(p.caption)}" src="{text(quote(p.file))}"></a>'
        f"<figcaption>{text(p.caption)}</figcaption></figure>"
        for p in entry.images
    )
    return f"<section data-number={entry.number}><h2>{text(entry.heading)}</h2>{figures}</section>"
