"""Records diffusers' WanTransformer3DModel with the CLIP branch (2.1 image-to-video and FLF2V) on tiny random weights.

python image-branch-fixture.py OUT.safetensors. Weights are under diffusers' own names, exact in bfloat16; all arithmetic
is float32. test/models/image-branch.test.ts holds Kinora to the outputs.
"""
import json
import sys

import diffusers
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import save_file

torch.manual_seed(20261121)
tensors, configs = {}, {}
for key, positions in (("i2v", None), ("flf2v", 514)):
    config = dict(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=24, in_channels=36, out_channels=16, text_dim=32,
        freq_dim=64, ffn_dim=80, num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads", eps=1e-6,
        image_dim=40, added_kv_proj_dim=48, rope_max_seq_len=1024, pos_embed_seq_len=positions,
    )
    model = WanTransformer3DModel(**config).eval()
    state = model.state_dict()
    for name, value in state.items():
        noise = torch.randn_like(value) * (0.3 if "norm" in name or value.ndim == 1 else value[0].numel() ** -0.5)
        value.copy_(((1 + noise) if "norm" in name and name.endswith("weight") else noise).bfloat16())
        tensors[f"weights.{key}.{name}"] = value.bfloat16()
    latents = torch.randn(1, 36, 3, 6, 8)
    text = torch.zeros(1, 512, 32)
    text[:, :11] = torch.randn(1, 11, 32)
    image = torch.randn(1 if positions is None else 2, 257, 40)
    with torch.no_grad():
        out = model(latents, torch.tensor([637]), text, image, return_dict=False)[0]
    tensors[f"inputs.{key}.x"] = latents[0]
    tensors[f"inputs.{key}.context"] = text[0, :11].contiguous()
    tensors[f"inputs.{key}.image"] = image.reshape(-1, 40)
    tensors[f"outputs.{key}.out"] = out[0].contiguous()
    configs[key] = config
metadata = {
    "kind": "diffusers-image-branch",
    "config": json.dumps({"cases": configs, "timestep": 637}),
    "tolerance": "2e-5",
    "source": f"diffusers {diffusers.__version__}, torch {torch.__version__}, float32 CPU",
}
save_file(tensors, sys.argv[1], metadata)
