"""The peer: diffusers, transformers and peft in PyTorch, timed on the same threads and inputs as Kinora.

python wan.py CASE FOLDER [--model NAME] [--layers N] [--frames N] [--threads N] [--passes N] with CASE one of forward,
lora, umt5, vae. Makes random weights once (FOLDER/model, seeded), takes a turn of `passes` runs, records inputs and its
outputs in FOLDER/record.safetensors, and prints a line of JSON: {"seconds": of one run, ...}; a training case also the
losses and gradient norms of the turn's steps. Then it takes a turn and prints a line for each line that it reads.
"""
import argparse
import json
import os
import sys
import time

import torch
from safetensors.torch import save_file

DTYPE = torch.bfloat16
# What the transformers of a name are made with, and what they are run on.
MODELS = {
    "t2v-1.3B": dict(heads=12, text_dim=4096, freq_dim=256, ffn_dim=8960, text_length=512, height=480, width=832),
    "tiny-t2v": dict(heads=2, text_dim=128, freq_dim=64, ffn_dim=768, text_length=32, height=64, width=64),
}


def transformer(folder, layers, name):
    from diffusers import WanTransformer3DModel

    sizes = MODELS[name]
    path = os.path.join(folder, "model")
    if not os.path.exists(os.path.join(path, "config.json")):
        torch.manual_seed(1)
        torch.set_default_dtype(DTYPE)
        model = WanTransformer3DModel(
            patch_size=(1, 2, 2), num_attention_heads=sizes["heads"], attention_head_dim=128, in_channels=16,
            out_channels=16, text_dim=sizes["text_dim"], freq_dim=sizes["freq_dim"], ffn_dim=sizes["ffn_dim"],
            num_layers=layers, cross_attn_norm=True, qk_norm="rms_norm_across_heads", eps=1e-6,
        )
        torch.set_default_dtype(torch.float32)
        model.save_pretrained(path, max_shard_size="20GB")
        del model
    return WanTransformer3DModel.from_pretrained(path, torch_dtype=DTYPE).eval()


def inputs_for(frames, name):
    sizes = MODELS[name]
    torch.manual_seed(2)
    latents = torch.randn(1, 16, (frames - 1) // 4 + 1, sizes["height"] // 8, sizes["width"] // 8)
    return latents, torch.randn(1, sizes["text_length"], sizes["text_dim"])


def forward(args):
    model = transformer(args.folder, args.layers, args.model)
    x, text = inputs_for(args.frames, args.model)
    run = lambda: model(x.to(DTYPE), torch.tensor([500]), text.to(DTYPE), return_dict=False)[0]
    return run, lambda out: {"x": x[0], "context": text[0], "out": out[0].float()}, {}


def lora(args):
    from peft import LoraConfig, get_peft_model_state_dict

    model = transformer(args.folder, args.layers, args.model)
    model.requires_grad_(False)
    torch.manual_seed(3)
    model.add_adapter(
        LoraConfig(r=32, lora_alpha=32, init_lora_weights="gaussian",
                   target_modules=["to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"])
    )
    model.enable_gradient_checkpointing()
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    for p in parameters:
        p.data = p.data.float()
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    clean, text = inputs_for(args.frames, args.model)
    noise = torch.randn_like(clean)
    sigma = 0.5
    adapters = {f"adapter.{k}": v.clone().contiguous() for k, v in get_peft_model_state_dict(model).items()}
    losses, norms = [], []

    @torch.enable_grad()
    def step():
        noisy = (1 - sigma) * clean + sigma * noise
        with torch.autocast("cpu", dtype=DTYPE):
            out = model(noisy.to(DTYPE), torch.tensor([1000 * sigma]), text.to(DTYPE), return_dict=False)[0]
        loss = (out.float() - (noise - clean)).pow(2).mean()
        loss.backward()
        norms.append(torch.nn.utils.get_total_norm([p.grad for p in parameters]).item())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())

    record = {"clean": clean[0], "noise": noise[0], "context": text[0], **adapters}
    return step, lambda _: record, {"losses": losses, "gradientNorms": norms}


def umt5(args):
    from transformers import UMT5Config, UMT5EncoderModel

    path = os.path.join(args.folder, "model")
    if not os.path.exists(os.path.join(path, "config.json")):
        torch.manual_seed(4)
        config = UMT5Config(
            vocab_size=32000, d_model=4096, d_kv=64, d_ff=10240, num_layers=args.layers, num_heads=64,
            relative_attention_num_buckets=32, relative_attention_max_distance=128, feed_forward_proj="gated-gelu",
        )
        torch.set_default_dtype(DTYPE)
        model = UMT5EncoderModel(config)
        torch.set_default_dtype(torch.float32)
        model.save_pretrained(path, max_shard_size="20GB")
        del model
    model = UMT5EncoderModel.from_pretrained(path, torch_dtype=DTYPE).eval()
    torch.manual_seed(5)
    ids = torch.randint(5, 31000, (1, 512))
    run = lambda: model(ids).last_hidden_state
    return run, lambda out: {"ids": ids[0].to(torch.int32), "out": out[0].float()}, {}


def vae(args):
    from diffusers import AutoencoderKLWan

    path = os.path.join(args.folder, "model")
    if not os.path.exists(os.path.join(path, "config.json")):
        torch.manual_seed(6)
        AutoencoderKLWan().save_pretrained(path)
    model = AutoencoderKLWan.from_pretrained(path).eval()
    torch.manual_seed(7)
    z = torch.randn(1, 16, (args.frames - 1) // 4 + 1, 30, 52)
    run = lambda: model.decode(z, return_dict=False)[0]
    return run, lambda out: {"z": z[0], "out": out[0]}, {}


def take_turn(run, passes, lists):
    """`passes` runs: the last one's result, and what a line says of the turn."""
    for values in lists.values():
        values.clear()
    started = time.perf_counter()
    for _ in range(passes):
        result = run()
    seconds = (time.perf_counter() - started) / passes
    return result, {"seconds": seconds, **lists}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=["forward", "lora", "umt5", "vae"])
    parser.add_argument("folder")
    parser.add_argument("--model", choices=list(MODELS), default="t2v-1.3B")
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--passes", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    os.makedirs(args.folder, exist_ok=True)
    run, record, lists = globals()[args.case](args)
    with torch.no_grad():
        result, line = take_turn(run, args.passes, lists)
        tensors = {name: value.detach().contiguous() for name, value in record(result).items()}
        save_file(tensors, os.path.join(args.folder, "record.safetensors"))
        print(json.dumps({"torch": torch.__version__, **line}), flush=True)
        for _ in sys.stdin:
            _, line = take_turn(run, args.passes, lists)
            print(json.dumps(line), flush=True)


main()
