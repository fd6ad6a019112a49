"""diffusers, transformers and peft: networks that they make and save, LoRAs both ways, a training step.

What they make themselves lies in FOLDER/huggingface: transformer/, vae/, text_encoder/, and PEFT folders in peft-*/.
"""
import os

import torch
from common import Subject

subject = Subject("huggingface")
import diffusers  # noqa: E402
import peft  # noqa: E402
import transformers  # noqa: E402
from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel  # noqa: E402
from peft import LoHaConfig, LoraConfig, get_peft_model  # noqa: E402
from transformers import UMT5Config, UMT5EncoderModel  # noqa: E402


def randomized(model, seed):
    """Gains near one, tables and biases near zero, matrices as they are made: nothing is left at its constant start."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2 or "table" in name:
            base = 1.0 if "norm" in name and name.endswith("weight") or "gamma" in name else 0.0
            parameter.copy_(base + 0.1 * torch.randn_like(parameter))
    return model.eval()


def made_transformer():
    sizes = subject.dits["t2v"]
    torch.manual_seed(1)
    return randomized(
        WanTransformer3DModel(
            patch_size=tuple(sizes["patchSize"]), num_attention_heads=sizes["heads"],
            attention_head_dim=sizes["dim"] // sizes["heads"], in_channels=sizes["inputChannels"],
            out_channels=sizes["outputChannels"], text_dim=sizes["textDim"], freq_dim=sizes["frequencyDim"],
            ffn_dim=sizes["ffnDim"], num_layers=sizes["layers"], cross_attn_norm=True,
            qk_norm="rms_norm_across_heads", eps=sizes["eps"],
        ),
        2,
    )


def padded_context():
    context = subject.inputs["context"]
    padded = torch.zeros(1, subject.dits["t2v"]["textLength"], context.shape[1])
    padded[0, : context.shape[0]] = context
    return padded


def forward(model, name="x.t2v"):
    return model(subject.inputs[name][None], torch.tensor([subject.timestep]), padded_context(), return_dict=False)[0][0]


base = made_transformer()
base.save_pretrained(subject.own("transformer"))
subject.check("transformer.t2v", lambda: forward(base))


def autoencoder():
    torch.manual_seed(3)
    vae = AutoencoderKLWan(
        base_dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.1 * i - 0.7 for i in range(16)], latents_std=[0.6 + 0.05 * i for i in range(16)],
    )
    vae = randomized(vae, 4)
    vae.save_pretrained(subject.own("vae"))
    mean, std = (torch.tensor(part)[None, :, None, None, None] for part in (vae.config.latents_mean, vae.config.latents_std))
    encoded = (vae.encode(subject.inputs["video.vae21"][None]).latent_dist.mode() - mean) / std
    decoded = vae.decode(subject.inputs["z.vae21"][None] * std + mean, return_dict=False)[0]
    return {".encode": encoded[0], ".decode": decoded.clamp(-1, 1)[0]}


subject.check("vae21", autoencoder)


def text():
    sizes = subject.textEncoder
    torch.manual_seed(5)
    config = UMT5Config(
        vocab_size=sizes["vocabulary"], d_model=sizes["dim"], d_kv=sizes["attentionDim"] // sizes["heads"],
        d_ff=sizes["ffnDim"], num_layers=sizes["layers"], num_heads=sizes["heads"],
        relative_attention_num_buckets=sizes["buckets"], relative_attention_max_distance=sizes["maxDistance"],
        feed_forward_proj="gated-gelu",
    )
    model = randomized(UMT5EncoderModel(config), 6)
    model.save_pretrained(subject.own("text_encoder"))
    ids = subject.inputs["ids"].long()[None]
    mask = (torch.arange(ids.shape[1]) < subject.textLength).long()[None]
    return model(ids, attention_mask=mask).last_hidden_state[0, : subject.textLength]


subject.check("text", text)


def pipeline():
    return WanPipeline(
        tokenizer=None, text_encoder=None, vae=None, scheduler=None, transformer=made_transformer(),
        transformer_2=made_transformer(),
    )


def loaded(name, second):
    """One of our files into one of the pipeline's two transformers, at a strength; the other must stay as it is."""
    pipe = pipeline()
    pipe.load_lora_weights(subject.lora_path(name), adapter_name="kinora", load_into_transformer_2=second)
    changed, other = (pipe.transformer_2, pipe.transformer) if second else (pipe.transformer, pipe.transformer_2)
    changed.set_adapters(["kinora"], [subject.strength])
    assert torch.equal(forward(other), forward(base)), "the other transformer changed"
    return forward(changed)


for name in ("diffusers", "comfy", "musubi", "diffsynth"):
    subject.check(f"lora.{name}.high", lambda name=name: loaded(name, False))
    subject.check(f"lora.{name}.low", lambda name=name: loaded(name, True))

TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"]
PATTERNS = {
    "patterns": dict(r=4, lora_alpha=6, rank_pattern={"attn2.to_k": 2, "ffn.net.2": 8}, alpha_pattern={"attn1.to_q": 16, "blocks.1.attn2.to_v": 1}),
    "rslora": dict(r=4, lora_alpha=6, use_rslora=True),
    "dora": dict(r=4, lora_alpha=6, use_dora=True),
    "bias": dict(r=4, lora_alpha=6, lora_bias=True),
    "whole": dict(r=4, lora_alpha=6, modules_to_save=["proj_out"]),
    "loha": dict(r=4, alpha=6, alpha_pattern={"attn1.to_q": 2}),
}


def filled(model, seed):
    """Trained values, as it were: the up matrices too, and what DoRA and modules_to_save hold."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if any(word in name for word in ("lora_", "hada_", "modules_to_save")):
            size = 0.3 if "hada_" in name else 0.06 if parameter.dim() > 1 else 0.1
            parameter.copy_((parameter if "magnitude" in name or "modules_to_save" in name else 0) + size * torch.randn_like(parameter))


def peft_folder(name, options):
    kind = LoHaConfig if name == "loha" else LoraConfig
    model = get_peft_model(made_transformer(), kind(target_modules=TARGETS, **options))
    filled(model, 7)
    model.save_pretrained(subject.own("peft-" + name, ""))
    return forward(model)


for name, options in PATTERNS.items():
    subject.check("peft." + name, lambda name=name, options=options: peft_folder(name, options))


def own_file():
    """diffusers' own LoRA file, with PEFT's configuration in its metadata."""
    model = made_transformer()
    model.add_adapter(LoraConfig(target_modules=TARGETS, **PATTERNS["patterns"]), adapter_name="kinora")
    filled(model, 8)
    state = peft.get_peft_model_state_dict(model, adapter_name="kinora")
    WanPipeline.save_lora_weights(
        subject.own("lora", ""), transformer_lora_layers=state,
        transformer_lora_adapter_metadata=model.peft_config["kinora"].to_dict(),
    )
    return forward(model)


subject.check("lora.saved", own_file)


def training_step():
    model = made_transformer()
    model.requires_grad_(False)
    model.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=TARGETS), adapter_name="kinora")
    with torch.no_grad():
        filled(model, 9)
    names = {name: p for name, p in model.named_parameters() if "lora_" in name}
    state = {k: v.clone() for k, v in peft.get_peft_model_state_dict(model, adapter_name="kinora").items()}
    WanPipeline.save_lora_weights(subject.own("start", ""), transformer_lora_layers=state)
    with torch.enable_grad():
        for p in names.values():
            p.requires_grad_(True)
        clean, noise = subject.inputs["clean"][None], subject.inputs["noise"][None]
        noisy = (1 - subject.sigma) * clean + subject.sigma * noise
        out = model(noisy, torch.tensor([1000 * subject.sigma]), padded_context(), return_dict=False)[0]
        loss = (out - (noise - clean)).pow(2).mean()
        loss.backward()
    norm = torch.stack([p.grad.pow(2).sum() for p in names.values()]).sum().sqrt()
    one = next(p for name, p in names.items() if "blocks.0.attn1.to_q.lora_A" in name)
    return {".loss": loss[None], ".norm": norm[None], ".gradient": one.grad}


subject.check("training", training_step)
subject.finish(diffusers=diffusers.__version__, peft=peft.__version__, transformers=transformers.__version__)
