"""One number that a person may change: a field that takes exactly what is typed, and a slider for trying out.

The field is the truth. The slider covers the range on a logarithmic scale with 0 at its left end; its handle follows the field
without changing it. A number out of range is refused with a sentence, and the field goes back to what is in force.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import log10

import ipywidgets

DECADES = 4.0  # of the range that the slider covers, from its end downwards
STEP = 0.001  # of the handle, whose way is 1 long
TIMES = 30.0  # the slider ends at this many times the first value, or at the range's end


class KnobRow:
    """Name, field and slider; `changed(name, value)` is called for every number that the person asks for."""

    def __init__(self, name: str, value: float, low: float, high: float, help: str, changed: Callable):
        self.name, self.low, self.changed = name, low, changed
        self.most = min(high, TIMES * value) if value else min(high, 1.0)
        self.own = threading.local()  # a browser's messages and the fit come in different threads
        self.field = ipywidgets.FloatText(value, continuous_update=False, layout={"width": "92px"})
        self.slider = ipywidgets.FloatSlider(
            self._place(value), min=0, max=1, step=STEP, readout=False, layout={"width": "150px"}
        )
        label = ipywidgets.Label(name, layout={"width": "84px"}, tooltip=help)
        self.field.observe(self._typed, "value")
        self.slider.observe(self._slid, "value")
        self.widget = ipywidgets.HBox([label, self.field, self.slider], layout={"overflow": "hidden"})

    def show(self, value: float) -> None:
        """Shows the value in force, without asking for anything."""
        with self._following():
            self.field.value, self.slider.value = value, self._place(value)

    @contextmanager
    def _following(self) -> Iterator[None]:
        """Inside the `with` block, field and slider move by themselves, which is no wish of the person."""
        self.own.following = True
        try:
            yield
        finally:
            self.own.following = False

    def _typed(self, change: dict) -> None:
        if not getattr(self.own, "following", False):
            with self._following():
                self.slider.value = self._place(change["new"])
            self.changed(self.name, change["new"])

    def _slid(self, change: dict) -> None:
        place = change["new"]
        stands = abs(place - self._place(self.field.value)) < STEP / 2  # the browser repeats what it was told, rounded
        if not getattr(self.own, "following", False) and not stands:
            value = float(f"{self.most * 10 ** (DECADES * (place - 1)):.3g}") if place > 0 else 0.0
            with self._following():
                self.field.value = value
            self.changed(self.name, value)

    def _place(self, value: float) -> float:
        """Where the handle stands, 0 to 1, in whole STEPs: a browser would round it and send that back as if it were moved."""
        return 0.0 if value <= 0 else round(min(1.0, max(STEP, 1 + log10(value / self.most) / DECADES)), 3)
