"""DiffSynth-Studio (PyPI: diffsynth): its transformer, and LoRAs in its names."""
import importlib.metadata

import torch
from common import Subject

subject = Subject("diffsynth_studio")
from diffsynth.models.wan_video_dit import WanModel  # noqa: E402
from diffsynth.pipelines.wan_video import model_fn_wan_video  # noqa: E402
from diffsynth.utils.lora.general import GeneralLoRALoader  # noqa: E402


def model_of():
    sizes = subject.dits["t2v"]
    model = WanModel(
        dim=sizes["dim"], in_dim=sizes["inputChannels"], ffn_dim=sizes["ffnDim"], out_dim=sizes["outputChannels"],
        text_dim=sizes["textDim"], freq_dim=sizes["frequencyDim"], eps=sizes["eps"],
        patch_size=tuple(sizes["patchSize"]), num_heads=sizes["heads"], num_layers=sizes["layers"], has_image_input=False,
    )
    model.load_state_dict(subject.weights("t2v"))
    return model.eval()


def forward(model):
    context = subject.inputs["context"]
    # Its pipeline pads texts with zeros before the model.
    padded = torch.zeros(1, subject.dits["t2v"]["textLength"], context.shape[1])
    padded[0, : context.shape[0]] = context
    timestep = torch.tensor([float(subject.timestep)])
    return model_fn_wan_video(model, latents=subject.inputs["x.t2v"][None], timestep=timestep, context=padded)[0]


subject.check("transformer.t2v", lambda: forward(model_of()))


def loaded(name):
    model = model_of()
    GeneralLoRALoader(device="cpu", torch_dtype=torch.float32).fuse_lora_to_base_model(
        model, subject.lora(name), alpha=subject.strength
    )
    return forward(model)


for name in ("diffsynth", "comfy"):
    subject.check("lora." + name, lambda name=name: loaded(name))
subject.finish(diffsynth=importlib.metadata.version("diffsynth"))
