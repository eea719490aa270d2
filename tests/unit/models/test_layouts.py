"""Wrapped state dicts are the same expert; what is none is named for what it is."""

import re

import pytest
import torch
from safetensors.torch import save_file

from dawin_ray.errors import UserError
from dawin_ray.models.checkpoints import read_tensors
from dawin_ray.models.experts import load_experts, read_checkpoint
from dawin_ray.models.layouts import adapter, open_clip_names, state_dict_of, what_it_is
from dawin_ray.models.spec import ExpertConfig, HeadSpec, ModelConfig, ModelSpec
from tests.conftest import MODEL_CONFIG, expert_state


def under(prefix: str, head: str | None = None):
    """All tensors under a prefix; the head under `head`, where that is another one."""

    def wrap(state):
        return {
            f"{prefix if head is None or not k.startswith('classification_head') else head}{k}": v
            for k, v in state.items()
        }

    return wrap


WRAPPINGS = {
    "torch.compile": under("_orig_mod."),
    "compiled under DDP": under("module._orig_mod."),
    "DDP, compiled": under("_orig_mod.module."),
    "Lightning, net": under("net."),
    "Lightning, clip of a model": under("model.clip."),
    "naver-ai/dawin, compiled": under("_orig_mod.model.", "_orig_mod."),
    "head beside a wrapped tower": under("image_encoder.model.", ""),
    "head elsewhere": under("backbone.", "top."),
    "only the tower is compiled": lambda state: {
        k.replace("visual.", "visual._orig_mod."): v for k, v in state.items()
    },
    "only the tower is under DDP": lambda state: {
        k.replace("visual.", "visual.module."): v for k, v in state.items()
    },
    "FSDP inside": lambda state: {
        f"_fsdp_wrapped_module.{k}".replace("resblocks.0.", "resblocks.0._fsdp_wrapped_module."): v
        for k, v in state.items()
    },
    "checkpointed blocks": lambda state: {
        k.replace("resblocks.1.", "resblocks.1._checkpoint_wrapped_module."): v
        for k, v in state.items()
    },
    "Lightning file": lambda state: {
        "state_dict": under("model.")(state),
        "epoch": 3,
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}],
    },
    "model and optimizer": lambda state: {
        "model": state,
        "optimizer": {"state": {"visual.proj": {"exp_avg": torch.zeros(3)}}, "lr": 0.1},
        "step": torch.tensor(7),
    },
    "two levels": lambda state: {"checkpoint": {"model_ema": under("module.")(state)}},
    "OpenAI's extras": lambda state: (
        state | {k: torch.tensor(7) for k in ("input_resolution", "context_length", "vocab_size")}
    ),
}


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)
def test_a_wrapped_checkpoint_is_the_same_expert(tmp_path, wrap):
    state = expert_state(0)
    torch.save(wrap(state), tmp_path / "a.pt")
    found = read_checkpoint(str(tmp_path / "a.pt"), "any")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_each_key_that_trainers_use_is_opened():
    state = {"visual.proj": torch.ones(2)}
    for key in ("model", "model_state_dict", "state_dict", "ema", "model_ema", "module", "net"):
        assert state_dict_of({key: state, "epoch": 1}, "a.pt").keys() == state.keys()


def test_several_state_dicts_are_named():
    state = {"visual.proj": torch.ones(2)}
    with pytest.raises(UserError, match=r"a\.pt.*2 state dicts \('model', 'ema'\).*Save that one"):
        state_dict_of({"model": state, "ema": state, "epoch": 1}, "a.pt")
    with pytest.raises(UserError, match=r"\(the file itself, 'extra\.ema'\)"):
        state_dict_of({**state, "extra": {"ema": state}}, "a.pt")
    with pytest.raises(UserError, match=r"\('encoder', 'decoder'\)"):  # neither has a tower
        state_dict_of({"encoder": {"w": torch.ones(1)}, "decoder": {"w": torch.ones(1)}}, "a.pt")


def test_a_file_without_tensors_is_named_with_its_keys():
    with pytest.raises(UserError, match=r"no tensors by name.*dict with the keys 'epoch', 'args'"):
        state_dict_of({"epoch": 3, "args": {"lr": 0.1}}, "a.pt")


def test_several_towers_or_heads_are_refused():
    one = torch.ones(2)
    with pytest.raises(UserError, match=r"several models \('student\.visual\.', 'teacher\.visual"):
        open_clip_names({"student.visual.proj": one, "teacher.visual.proj": one}, "a.pt")
    with pytest.raises(UserError, match=r"several models .*'old\.classification_head\."):
        open_clip_names(
            {
                "visual.proj": one,
                "classification_head.weight": one,
                "old.classification_head.weight": one,
            },
            "a.pt",
        )
    with pytest.raises(UserError, match=r"'logit_scale' twice"):
        open_clip_names({"net.visual.proj": one, "net.logit_scale": one, "logit_scale": one}, "a")


FOREIGN = {
    "vision_model.embeddings.class_embedding": "Hugging Face",
    "clip.vision_model.encoder.layers.0.mlp.fc1.weight": "Hugging Face",
    "base_model.model.text_model.q_proj.lora_A.weight": "LoRA adapter.*merge_and_unload",
    "lora_unet_down.weight": "LoRA adapter",
    "model.layers.0.q_proj.base_layer.weight": "LoRA adapter",
    "vision_tower.blocks.0.weight": "multimodal language model",
    "blocks.0.attn.qkv.weight": "timm or torchvision",
    "fc.weight": "timm or torchvision",
    "class_embedding": "image tower alone, without `visual",
    "something.else": "'something.else'",
}


@pytest.mark.parametrize(("name", "message"), FOREIGN.items())
def test_layouts_of_another_kind_are_named(name, message):
    assert re.search(message, what_it_is([name, "other.weight"]))


def test_only_adapters_are_taken_for_adapters():
    assert adapter(expert_state(0)) is None
    assert adapter(["text.exploration.weight", "visual.floral_a"]) is None


def refusal(small, path) -> str:
    experts = tuple(ExpertConfig(name=f"e{i}", checkpoint=str(path)) for i in range(2))
    config = ModelConfig(architecture=small.config)
    spec = ModelSpec(config=config, experts=experts, base=None, heads=(HeadSpec(),))
    with pytest.raises(UserError) as caught:
        load_experts(spec)
    return str(caught.value)


def test_an_adapter_over_the_tower_is_named_and_never_half_read(small, tmp_path):
    a, b = torch.zeros(4, MODEL_CONFIG["vision_cfg"]["width"]), torch.zeros(16, 4)
    alone = {f"base_model.model.visual.proj.lora_{n}.weight": t for n, t in (("A", a), ("B", b))}
    torch.save(alone, tmp_path / "adapter.pt")
    assert "LoRA adapter" in refusal(small, tmp_path / "adapter.pt")
    torch.save(expert_state(0) | {"visual.proj.lora_A.weight": a}, tmp_path / "both.pt")
    assert "LoRA adapter" in refusal(small, tmp_path / "both.pt")


def test_what_a_wrapping_left_is_read_from_safetensors_too(tmp_path):
    state = expert_state(1)
    save_file(under("_orig_mod.")(state), tmp_path / "a.safetensors")
    assert read_checkpoint(str(tmp_path / "a.safetensors"), "any").keys() == state.keys()
    # under the other suffix
    (tmp_path / "a.safetensors").rename(tmp_path / "a.bin")
    assert len(read_tensors(str(tmp_path / "a.bin"))) == len(state)
