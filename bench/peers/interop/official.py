"""Wan's own code (PyPI: wan22), on the CPU in float32: transformer, autoencoders, text encoder, samplers."""
import importlib.metadata
import sys
import types
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from common import Subject, velocity

# The package asks for the current GPU while it is imported, and its own __init__ imports every pipeline.
torch.cuda.current_device = lambda: 0
root = types.ModuleType("wan")
root.__path__ = list(find_spec("wan").submodule_search_locations)
sys.modules["wan"] = root

import wan.modules.model as model_module  # noqa: E402
import wan.modules.vae2_1 as vae2_1  # noqa: E402
import wan.modules.vae2_2 as vae2_2  # noqa: E402
from wan.modules.t5 import T5Encoder  # noqa: E402
from wan.utils.fm_solvers import FlowDPMSolverMultistepScheduler, get_sampling_sigmas, retrieve_timesteps  # noqa: E402
from wan.utils.fm_solvers_unipc import FlowUniPCMultistepScheduler  # noqa: E402


def exact_attention(q, k, v, k_lens=None, **_):
    """In place of flash attention, which needs a GPU: the same softmax, in float32."""
    length = k.shape[1] if k_lens is None else int(k_lens.max())
    out = F.scaled_dot_product_attention(q.transpose(1, 2), k[:, :length].transpose(1, 2), v[:, :length].transpose(1, 2))
    return out.transpose(1, 2)


model_module.flash_attention = exact_attention
subject = Subject("official")


def transformer(name):
    sizes = subject.dits[name]
    model = model_module.WanModel(
        model_type="ti2v" if name == "ti2v" else "t2v", patch_size=tuple(sizes["patchSize"]),
        text_len=sizes["textLength"], in_dim=sizes["inputChannels"], dim=sizes["dim"], ffn_dim=sizes["ffnDim"],
        freq_dim=sizes["frequencyDim"], text_dim=sizes["textDim"], out_dim=sizes["outputChannels"],
        num_heads=sizes["heads"], num_layers=sizes["layers"],
    )
    model.load_state_dict(subject.weights(name))
    model = model.eval()
    x = subject.inputs["x." + name]
    tokens = x.shape[1] * x.shape[2] * x.shape[3] // 4
    t = subject.timesteps(tokens) if name == "ti2v" else torch.tensor([subject.timestep])
    return model([x], t, [subject.inputs["context"]], tokens)[0]


for name in subject.dits:
    subject.check("transformer." + name, lambda name=name: transformer(name))


def autoencoder(module, name):
    sizes = subject.vaes[name]
    more = {"dec_dim": sizes["decDim"]} if name == "vae22" else {}
    vae = module.WanVAE_(
        dim=sizes["dim"], z_dim=sizes["zDim"], dim_mult=sizes["dimMult"], num_res_blocks=sizes["numResBlocks"],
        attn_scales=[], temperal_downsample=sizes["temporalDownsample"], **more,
    )
    vae.load_state_dict(subject.weights(name))
    vae = vae.eval()
    mean = torch.tensor(sizes["statistics"]["mean"])
    scale = [mean, 1 / torch.tensor(sizes["statistics"]["std"])]
    video = subject.inputs["video." + name]
    encoded = vae.encode(video[None], scale)
    decoded = vae.decode(subject.inputs["z." + name][None], scale)
    return {".encode": encoded[0], ".decode": decoded.clamp(-1, 1)[0]}


subject.check("vae21", lambda: autoencoder(vae2_1, "vae21"))
subject.check("vae22", lambda: autoencoder(vae2_2, "vae22"))


def text():
    sizes = subject.textEncoder
    encoder = T5Encoder(
        sizes["vocabulary"], sizes["dim"], sizes["attentionDim"], sizes["ffnDim"], sizes["heads"], sizes["layers"],
        sizes["buckets"], shared_pos=False,
    )
    encoder.load_state_dict(subject.weights("text-encoder"))
    ids = subject.inputs["ids"].long()[None]
    mask = (torch.arange(ids.shape[1]) < subject.textLength)[None]
    return encoder.eval()(ids, mask)[0, : subject.textLength]


subject.check("text", text)


def run(scheduler, timesteps):
    x = subject.inputs["x0"]
    for t in timesteps:
        x = scheduler.step(velocity(x, t), t, x, return_dict=False)[0]
    return x


def unipc():
    scheduler = FlowUniPCMultistepScheduler(num_train_timesteps=1000, shift=1, use_dynamic_shifting=False)
    scheduler.set_timesteps(subject.steps, device="cpu", shift=subject.shift)
    return run(scheduler, scheduler.timesteps)


def dpm():
    scheduler = FlowDPMSolverMultistepScheduler(num_train_timesteps=1000, shift=1, use_dynamic_shifting=False)
    sigmas = get_sampling_sigmas(subject.steps, subject.shift)
    timesteps, _ = retrieve_timesteps(scheduler, device="cpu", sigmas=sigmas)
    return run(scheduler, timesteps)


subject.check("sampler.unipc", unipc)
subject.check("sampler.dpm++", dpm)
subject.finish(wan22=importlib.metadata.version("wan22"))
