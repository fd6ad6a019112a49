"""What the comparisons share: the inputs and weights that Kinora wrote, and where a peer puts what it computed.

A peer's script is `python PEER.py FOLDER`; it writes FOLDER/PEER.safetensors, a tensor for each check, and prints a line of
JSON with its versions. A check that a peer cannot run is left out and named on the line with the reason.
"""
import json
import os
import sys
import traceback

import torch
from safetensors.torch import load_file, save_file

torch.set_grad_enabled(False)
torch.set_num_threads(max(1, os.cpu_count() or 1))


class Subject:
    def __init__(self, name):
        self.name = name
        self.folder = sys.argv[1]
        with open(os.path.join(self.folder, "settings.json")) as file:
            self.settings = json.load(file)
        self.inputs = load_file(os.path.join(self.folder, "inputs.safetensors"))
        self.outputs = {}
        self.failures = {}

    def __getattr__(self, name):
        return self.settings[name]

    def weights(self, name):
        return load_file(os.path.join(self.folder, "weights", name + ".safetensors"))

    def lora(self, name):
        return load_file(self.lora_path(name))

    def lora_path(self, name):
        return os.path.join(self.folder, "lora", name + ".safetensors")

    def own(self, *parts):
        """A path for what this peer makes itself."""
        path = os.path.join(self.folder, self.name, *parts)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def check(self, name, body):
        """Runs a check; its tensor, or dict of tensors by the rest of the name, is kept."""
        try:
            result = body()
        except Exception:
            self.failures[name] = traceback.format_exc(limit=-3)
            return
        for key, value in (result if isinstance(result, dict) else {"": result}).items():
            self.outputs[name + key] = value.detach().float().contiguous().clone()

    def finish(self, **versions):
        save_file(self.outputs, os.path.join(self.folder, self.name + ".safetensors"))
        versions["torch"] = torch.__version__
        print(json.dumps({"versions": versions, "failures": self.failures}))

    def timesteps(self, tokens, device="cpu"):
        """Per-token timesteps of TI2V: 0 on the first frame's tokens."""
        t = torch.full((1, tokens), float(self.timestep), device=device)
        t[:, : self.boundaryTokens] = 0
        return t


def velocity(x, timestep):
    """The toy model of the samplers' runs."""
    return torch.sin(3 * x) * 0.5 + 0.1 * torch.cos(torch.tensor(float(timestep) / 1000 * 6, dtype=torch.float64)).float()
