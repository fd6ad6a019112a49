"""musubi-tuner, from a checkout that KINORA_MUSUBI names (it is in no package registry): our LoRAs into its network."""
import os
import subprocess
import sys

import torch
from common import Subject

root = os.environ["KINORA_MUSUBI"]
sys.path.insert(0, os.path.join(root, "src"))
subject = Subject("musubi")
from musubi_tuner.networks import lora, lora_wan  # noqa: E402


def changes():
    """What its network adds to each weight, merged as its own scripts merge."""
    weights = subject.lora("musubi")
    import torch.nn as nn

    class WanAttentionBlock(nn.Module):
        """The class name that its network looks for, with the Linears of a block."""

        def __init__(self, sizes):
            super().__init__()
            dim, ffn = sizes["dim"], sizes["ffnDim"]
            for part in ("self_attn", "cross_attn"):
                setattr(self, part, nn.ModuleDict({name: nn.Linear(dim, dim) for name in "qkvo"}))
            self.ffn = nn.Sequential(nn.Linear(dim, ffn), nn.GELU(), nn.Linear(ffn, dim))

    class Model(nn.Module):
        def __init__(self, sizes):
            super().__init__()
            self.blocks = nn.ModuleList([WanAttentionBlock(sizes) for _ in range(sizes["layers"])])

    sizes = subject.dits["t2v"]
    model = Model(sizes)
    base = subject.weights("t2v")
    model.load_state_dict({name: base[name] for name in model.state_dict()})
    network = lora_wan.create_arch_network_from_weights(subject.strength, weights, unet=model, for_inference=True)
    network.merge_to(None, model, weights, device="cpu", non_blocking=False)
    return {"." + name: value for name, value in model.state_dict().items() if name.endswith("weight")}


subject.check("merged", changes)
version = subprocess.run(["git", "-C", root, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
subject.finish(musubi=version or "unknown")
