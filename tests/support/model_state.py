"""Everything that a call may lend of a model or touch, for comparison before and after."""

import torch

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_backward_hooks",
)


def state_of(model):
    """Return what a call has to leave as it was, as values that can be compared."""
    modules = dict(model.named_modules())
    configs = [m.config for m in modules.values() if "config" in vars(m)]
    return {
        "config": model.config.to_dict(),
        "attention": [config._attn_implementation for config in configs],
        "hooks": {
            (name, kind): list(getattr(m, kind)) for name, m in modules.items() for kind in HOOKS
        },
        "global hooks": len(torch.nn.modules.module._global_forward_hooks),
        "attributes": {name: sorted(vars(m)) for name, m in modules.items()},
        "training": [m.training for m in modules.values()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "gradients": [p.grad is None for p in model.parameters()],
        "weights": [(id(p), p._version) for p in model.parameters()],
        "gradient mode": torch.is_grad_enabled(),
        "function modes": torch.overrides._len_torch_function_stack(),
    }
