"""Pieces of HTML; escapes all content of run folders."""

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# The style of each verdict, in the order in which they are counted.
VERDICTS = {
    "reproduced": "good",
    "contradicted": "bad",
    "no effect that counts": "none",
    "inconclusive": "open",
}


def escape(text: Any) -> str:
    """Escape text for use between tags and in quoted attributes, as valid Unicode.

    >>> escape('<b> "x"')
    '&lt;b&gt; &quot;x&quot;'
    """
    return html.escape(str(text)).encode("utf-8", "replace").decode("utf-8")


def embedded_json(value: Any) -> str:
    r"""Returns JSON whose content cannot end a script element.

    >>> embedded_json("</script>")
    '"\\u003c/script>"'
    """
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


def number(value: float | int | None, unit: str = "") -> str:
    """Format a number with three digits and its unit; None as "-".

    >>> number(0.1234, "nats"), number(94.12, "%"), number(1234.5), number(None)
    ('0.123 nats', '94.1 %', '1,234', '-')
    >>> number(1, "points of accuracy")
    '1 point of accuracy'
    """
    if value is None:
        return "-"
    digits = f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.3g}"
    if digits in ("1", "-1"):
        unit = re.sub(r"^points\b", "point", unit)
    return f"{digits} {unit}".strip()


def signed(words: str) -> str:
    """Returns a number in words with a true minus sign, for the page alone.

    >>> signed("-0.5 %") == "\N{MINUS SIGN}0.5 %", signed("-")
    (True, '-')
    """
    return re.sub(r"^-(?=\d)", "\N{MINUS SIGN}", words)


def badge(verdict: str) -> str:
    """Returns a verdict, or "preview", as a coloured word."""
    style = VERDICTS.get(verdict, "open")
    return f'<span class="badge {style}">{verdict}</span>'


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    caption: str = "",
    stacked: bool = False,
) -> str:
    """Returns a table; cells must already be HTML.

    On narrow screens it scrolls, or with `stacked` each row becomes a block in which
    every cell but the first two names its column.
    """
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    columns = "".join(f'<th scope="col">{escape(word)}</th>' for word in head)
    names = [f' data-label="{escape(word)}"' if stacked else "" for word in head]
    body = "".join(
        "<tr>"
        + "".join(f"<td{n}>{c}</td>" for n, c in zip(names, row, strict=True))
        + "</tr>"
        for row in rows
    )
    label = escape(caption or "table")
    style = "stacked" if stacked else "wide"
    return (
        f'<div class="{style}" tabindex="0" role="region" aria-label="{label}"><table>'
        f"{title}<thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def fields(values: Mapping[str, Any], caption: str) -> str:
    """Returns a table of names and values."""
    words = {k: json.dumps(v, ensure_ascii=False) for k, v in values.items()}
    rows = [(escape(k), f"<code>{escape(v)}</code>") for k, v in words.items()]
    return table(("field", "value"), rows, caption)


def details(summary: str, body: str, style: str = "") -> str:
    """Returns content that is hidden until the reader opens its summary line."""
    named = f' class="{style}"' if style else ""
    return f"<details{named}><summary>{escape(summary)}</summary>{body}</details>"
