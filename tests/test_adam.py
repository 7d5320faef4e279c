"""Our call of the fused kernel against torch's own class."""

import torch

from recon_lib.refine.adam import Adam


def test_it_moves_as_torch_s_fused_adam_bit_for_bit_also_after_an_interruption():
    generator = torch.Generator().manual_seed(0)
    start = {"a": torch.randn(7, 5, generator=generator), "b": torch.randn(11, generator=generator)}
    ours, theirs = ({name: x.clone().requires_grad_() for name, x in start.items()} for _ in range(2))
    adam, rates = Adam(ours), {"a": 0.1, "b": 0.003}
    oracle = torch.optim.Adam([{"params": [x], "name": name} for name, x in theirs.items()], fused=True)
    for step in range(1, 21):
        share = 0.9**step
        for name, x in ours.items():
            x.grad = None if (step == 1 and name == "b") else torch.randn(x.shape, generator=generator)
            theirs[name].grad = None if x.grad is None else x.grad.clone()
        if step == 10:
            kept = {name: tensor.detach().clone() for name, tensor in adam.tensors().items()}
            ours = {name: torch.zeros_like(x).requires_grad_() for name, x in ours.items()}
            for name, x in ours.items():
                x.grad = theirs[name].grad.clone()
            adam = Adam(ours)
            adam.load(kept)
        adam.step({name: rate * share for name, rate in rates.items()})
        for group in oracle.param_groups:
            group["lr"] = rates[group["name"]] * share
        oracle.step()
        assert all(torch.equal(x, theirs[name]) for name, x in ours.items()), step
    assert not torch.equal(ours["a"], start["a"])
    adam.forget()
    assert all(x.grad is None for x in ours.values())
