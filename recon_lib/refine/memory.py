"""What Adam has fitted and remembers, as named tensors, so that a checkpoint can hold it."""

import torch
from torch import Tensor

KEPT = ("step", "exp_avg", "exp_avg_sq")  # torch's names of what Adam remembers of a parameter


def remember(adam: torch.optim.Adam, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """The named parameters, and what the optimiser remembers of each if it has moved them; not copied."""
    found = {f"{name}.value": parameter for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        found |= {f"{name}.{key}": value for key, value in adam.state.get(parameter, {}).items() if key in KEPT}
    return found


@torch.no_grad()
def recall(adam: torch.optim.Adam, parameters: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    """Takes over what `remember` gave."""
    for name, parameter in parameters.items():
        parameter.copy_(tensors[f"{name}.value"])
        if f"{name}.step" in tensors:
            adam.state[parameter] = {key: tensors[f"{name}.{key}"].to(parameter.device) for key in KEPT}
