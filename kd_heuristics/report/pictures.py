"""Figures on the page: a still image, panels to read and turn, and tables."""

import base64
import io
from typing import Any

from PIL import Image

from kd_heuristics.plots import Figure, Table
from kd_heuristics.report import findings, live
from kd_heuristics.report.folder import Run
from kd_heuristics.report.markup import details, embedded_json, escape, table


def figure(run: Run, name: str) -> str:
    """Returns a figure: the still image, tables, and panels drawn once they are opened.

    Args:
      run: the study's run.
      name: name of the file, without its suffix.
    """
    found = run.figures.get(name)
    alt, claims, panels, more = "", [], [], ""
    caption = caption_of(run, name)
    if isinstance(found, Figure):
        alt = found.alt
        claims = findings.chosen(run.claims, found.claims)
        panels = live.panels(found, findings.words(claims, alt or caption))
        more = _tables(found)
    elif found is not None:
        words = f"The data of this figure are damaged: {found}"
        more = f'<p class="bad">{escape(words)}</p>'
    alt = findings.words(claims, f"{alt or caption}, study {run.title}")
    still = _still(run.path / "figures" / f"{name}.png", escape(alt))
    kind = "with-live" if panels else "still-only"
    return (
        f'<figure class="{kind}" id="{escape(f"{run.title}-{name}")}">{still}'
        f"<figcaption>{escape(caption)}</figcaption>{_live(panels)}{more}</figure>"
    )


def caption_of(run: Run, name: str) -> str:
    """Returns a figure's caption; its name if it has no data."""
    found = run.figures.get(name)
    words = found.caption if isinstance(found, Figure) else ""
    return words or name.replace("_", " ").capitalize()


def _live(panels: list[dict[str, Any]]) -> str:
    """Returns the folded panels, which a script draws in place of the still image."""
    if not panels:
        return ""
    drawn = "".join(
        f'<div class="panel {panel["kind"]}"><h4>{escape(panel["title"])}</h4>'
        '<div class="plot"></div><output class="readout" aria-live="polite"></output>'
        f'<script type="application/json">{embedded_json(panel)}</script></div>'
        for panel in panels
    )
    turn = any(panel["kind"] == "surface" for panel in panels)
    words = "Turn it and read its values" if turn else "Read its values"
    return details(words, f'<div class="live">{drawn}</div>', style="explore")


def _still(path: Any, alt: str) -> str:
    """Embed an image with the same pixels as WebP, under half the size of PNG."""
    packed = io.BytesIO()
    try:
        with path.open("rb") as stream, Image.open(stream) as image:
            width, height = image.size
            image.convert("RGB").save(packed, "WEBP", lossless=True, method=2)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return f'<p class="bad still">The file of this figure is damaged. {alt}</p>'
    data = base64.b64encode(packed.getvalue()).decode()
    return (
        f'<img class="still" alt="{alt}" width="{width}" height="{height}" '
        f'src="data:image/webp;base64,{data}">'
    )


def _tables(found: Figure) -> str:
    """Returns the tables of a figure, side by side."""
    parts = [
        table([*panel.head], [[*map(escape, row)] for row in panel.rows], panel.title)
        for panel in found.panels
        if isinstance(panel, Table)
    ]
    return f'<div class="side">{"".join(parts)}</div>' if parts else ""
