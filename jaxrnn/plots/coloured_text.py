"""A text coloured by numbers, as HTML: for a notebook, which shows it, or for a file."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from jax.typing import ArrayLike

from jaxrnn import checks
from jaxrnn.plots.drawing import Scale, as_tokens, numbers_of, scale_of, visible

FIGURE = "margin:0 0 1em;padding:.5em .8em;background:#fff;color:#000;font:14px/1.8 ui-monospace,Menlo,monospace"
BAR = "display:inline-block;width:8em;height:.9em;margin:0 .5em;border:1px solid #777;vertical-align:middle"
TEXT = "white-space:pre-wrap;overflow-wrap:anywhere"


@dataclasses.dataclass(frozen=True, repr=False)
class Text:
    """A coloured text: notebooks show it, ``str`` is a whole page of HTML, and :meth:`save` writes it."""

    html: str
    title: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"<coloured text: {self.title}>"

    def __str__(self) -> str:
        head = '<meta charset="utf-8"/><meta name="viewport" content="width=device-width"/>'
        title = f"<title>{escape(self.title)}</title>"
        return f'<!DOCTYPE html>\n<html lang="en"><head>{head}{title}</head><body>{self.html}</body></html>\n'

    def save(self, path: str | os.PathLike) -> None:
        """Write the page into a file, whose name ends with .html."""
        if pathlib.Path(path).suffix.lower() not in (".html", ".htm"):
            checks.refuse("path", "a path that ends with .html", path)
        pathlib.Path(path).write_text(str(self), "utf-8")


def text(
    tokens: str | Sequence[str],
    values: ArrayLike | Mapping[str, ArrayLike],
    *,
    quantity: str = "activation",
    centre: float = 0.0,
    limit: float | None = None,
    between: str | None = None,
) -> Text:
    """Colour a text by one number a token: by the state of a unit, a gate, or a saliency.

    Blue is below the centre, white at it, red above. Spaces are shown as ·, ends of lines as ↵, an empty token as ∅;
    the number of a token is shown where the mouse rests on it. All writing systems are shown, and emoji: browsers have
    fonts for them.

    Args:
        tokens: a string, whose characters are the tokens, or a list of strings.
        values: ``[T]``, or a dict of several by name, each of which gets its own copy of the text and its own scale.
        quantity: what the numbers are, the title of the legend; of several their names are.
        centre: the number that is white. Gates have ``centre=0.5, limit=0.5``.
        limit: the distance from the centre at which colours are full; by default the largest.
        between: what separates tokens; by default nothing between characters, and a space between words.

    Returns:
        :class:`~jaxrnn.plots.Text`.

    Raises:
        TypeError, ValueError: there is not one finite number a token; the limit is not above 0.

    Example:
        >>> import jax, jaxrnn as rnn
        >>> words = rnn.data.Vocabulary.of("a cat and a hat")
        >>> model = rnn.Stack(rnn.Embedding(len(words), 4), rnn.LSTM(4, 8))
        >>> states = rnn.trajectory(model, model.init(jax.random.key(0)), words.encode("a cat and a hat"))
        >>> rnn.plots.text("a cat and a hat", states[1].c[:, 5], quantity="c of unit 5")
        <coloured text: c of unit 5>

    Source: Karpathy, Johnson & Fei-Fei (2015), "Visualizing and understanding recurrent networks", arXiv:1506.02078.
    """
    symbols = as_tokens("tokens", tokens)
    several = values if isinstance(values, Mapping) else {quantity: values}
    if not several:
        checks.refuse("values", "one row of numbers at least", "none")
    if not isinstance(between, str | None):
        checks.refuse("between", "a string or None", checks.describe(between), error=TypeError)
    glue = between if between is not None else " " if max(map(len, symbols)) > 1 else ""
    rows = {name: numbers_of(symbols, f"values[{name!r}]" if several is values else "values", row)
            for name, row in several.items()}  # fmt: skip
    figures = [_figure(name, symbols, row, scale_of(row, centre, limit), glue) for name, row in rows.items()]
    html, title = (part.encode("utf-8", "replace").decode() for part in ("".join(figures), ", ".join(rows)))
    return Text(html, title)  # half characters, which no file can hold, are replaced


def _figure(name: str, tokens: list[str], values: np.ndarray, scale: Scale, glue: str) -> str:
    """One copy of the text with its legend."""
    bar = f"{BAR};background:linear-gradient(to right,{','.join(scale.colours)})"
    low, high = (f"{end:.3g}".replace("-", "−") for end in (scale.low, scale.high))
    legend = f'{escape(name)}: <span style="white-space:nowrap">{low}<span style="{bar}"></span>{high}</span>'
    body = escape(glue).join(_span(token, value, scale) for token, value in zip(tokens, values))
    return f'<figure style="{FIGURE}"><figcaption>{legend}</figcaption><div style="{TEXT}">{body}</div></figure>'


def _span(token: str, value: float, scale: Scale) -> str:
    """A token on its colour, in black or white, with more contrast; a line breaks after a space and an end of line."""
    rgb = scale.rgb(value)
    linear = [(c / 255 / 12.92) if c < 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    ink = 0 if np.dot(linear, (0.2126, 0.7152, 0.0722)) > 0.179 else 255  # equal contrast with black and white
    colour = f"rgb({ink},{ink},{ink})" if token.strip() else f"rgba({ink},{ink},{ink},.45)"
    end = "\n" if "\n" in token else "<wbr/>" if token.isspace() else ""
    style = f"background:#{bytes(rgb).hex()};color:{colour}"
    return f'<span style="{style}" title="{value:.3g}">{escape(visible(token))}</span>{end}'
