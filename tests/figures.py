"""What the tests of plots share: figures without a display, rendered without a warning."""

import pytest

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def agg_backend():
    """Draw without a display."""
    matplotlib.use("Agg")


def legend(axes):
    """The entries of the legend."""
    return [text.get_text() for text in axes.get_legend().get_texts()]


def drawn(axes):
    """Render the figure, without a warning, and return the axes."""
    assert isinstance(axes, matplotlib.axes.Axes)
    axes.figure.canvas.draw()
    return axes


def plain_axes():
    """The axes of a new figure without a layout."""
    return matplotlib.pyplot.subplots()[1]
