"""Adam (Kingma & Ba 2015) by torch's fused kernel, of named parameters with a rate each.

It does what `torch.optim.Adam(fused=True)` does, to the last bit. That class is not used because its first step imports torch's
compiler, which takes two seconds.
"""

import torch
from torch import Tensor

BETAS = 0.9, 0.999
TINY = 1e-8  # added to the root of the second moment


class Adam:
    """The parameters, and what Adam remembers of each that it has moved."""

    def __init__(self, parameters: dict[str, Tensor]):
        self.parameters = parameters
        self.remembered: dict[str, dict[str, Tensor]] = {}

    def forget(self) -> None:
        """Drops all gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None

    @torch.no_grad()
    def step(self, rates: dict[str, float]) -> None:
        """Moves each parameter that has a gradient, at its rate per step."""
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            if name not in self.remembered:
                none, count = torch.zeros_like(parameter), torch.zeros((), device=parameter.device)
                self.remembered[name] = {"first": none, "second": none.clone(), "count": count}
            known = self.remembered[name]
            known["count"] += 1
            torch._fused_adam_(
                [parameter], [parameter.grad], [known["first"]], [known["second"]], [], [known["count"]], lr=rates[name],
                beta1=BETAS[0], beta2=BETAS[1], weight_decay=0.0, eps=TINY, amsgrad=False, maximize=False,
            )  # fmt: skip

    def tensors(self) -> dict[str, Tensor]:
        """The parameters and what is remembered of them by name, not copied, so that a checkpoint can hold it."""
        found = {f"{name}.value": parameter for name, parameter in self.parameters.items()}
        for name, known in self.remembered.items():
            found |= {f"{name}.{key}": value for key, value in known.items()}
        return found

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Takes over what `tensors` gave."""
        for name, parameter in self.parameters.items():
            parameter.copy_(tensors[f"{name}.value"])
            if f"{name}.count" in tensors:
                kept = {
                    key: tensors[f"{name}.{key}"].to(parameter.device, copy=True)
                    for key in ("first", "second", "count")
                }
                self.remembered[name] = kept
