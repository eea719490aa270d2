"""Models: preprocessing and logits are open_clip's, layouts of checkpoints agree, faults are named.

Shapes: B batch, C classes.
"""

import copy
import io
import json
import pickle
from dataclasses import asdict

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file

from dawin_ray.errors import UserError
from dawin_ray.models.experts import Experts, load_experts, read_checkpoint
from dawin_ray.models.heads import resolve_head
from dawin_ray.models.preprocessing import Preprocessing, as_values
from dawin_ray.models.spec import CHECKPOINT_HEAD, ExpertConfig, HeadSpec, ModelConfig, ModelSpec
from dawin_ray.models.texts import read_class_names, read_templates
from tests.conftest import CLASSES, MODEL_CONFIG, expert_state, make_images

CPU = torch.device("cpu")
HEADS = (HeadSpec(),)
TOWERS = {
    "ViT": {},
    "ModifiedResNet": {"vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}},
    "timm ViT": {
        "vision_cfg": {
            "timm_model_name": "test_vit", "timm_model_pretrained": False, "timm_pool": "",
            "timm_proj": "linear", "image_size": 64,
        }
    },
    "timm ResNet": {
        "vision_cfg": {
            "timm_model_name": "test_resnet", "timm_model_pretrained": False, "timm_pool": "avg",
            "timm_proj": "linear", "image_size": 64,
        }
    },
}  # fmt: skip


def write_config(path, **changes) -> str:
    path.write_text(json.dumps(MODEL_CONFIG | changes))
    return str(path)


def make_clip(seed: int, **changes) -> open_clip.CLIP:
    """A whole CLIP model, text tower and all, with statistics that are not the initial ones."""
    torch.manual_seed(seed)
    model = open_clip.CLIP(**(MODEL_CONFIG | changes))
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.uniform_(-0.1, 0.1)
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return model.eval()


def state_of(model: open_clip.CLIP, seed: int) -> dict[str, torch.Tensor]:
    """Its state dict with a head of CLASSES classes."""
    head = torch.randn(
        CLASSES, MODEL_CONFIG["embed_dim"], generator=torch.Generator().manual_seed(seed)
    )
    state = model.state_dict() | {"classification_head.weight": head}
    return {name: tensor.clone().contiguous() for name, tensor in state.items()}


def load(architecture: str, *checkpoints: str, heads=HEADS, **model) -> Experts:
    """Experts `e0`, `e1`, ... of these checkpoints."""
    experts = tuple(ExpertConfig(name=f"e{i}", checkpoint=c) for i, c in enumerate(checkpoints))
    config = ModelConfig(architecture=architecture, **model)
    return load_experts(ModelSpec(config=config, experts=experts, base=None, heads=heads))


def refused(architecture: str, *checkpoints: str, **settings) -> str:
    with pytest.raises(UserError) as caught:
        load(architecture, *checkpoints, **settings)
    return str(caught.value)


def saved(path, state) -> str:
    torch.save(state, path)
    return str(path)


# Preprocessing


def pictures(mode: str):
    rng = np.random.default_rng(7)
    for width, height in ((32, 32), (33, 70), (101, 31), (64, 64), (5, 200), (2, 2)):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        yield Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "1", "LA"])
@pytest.mark.parametrize(
    "settings",
    [
        {"size": 32},
        {"size": (48, 32), "resize_mode": "squash", "interpolation": "bilinear"},
        {"size": 40, "resize_mode": "longest", "mean": (0.5, 0.4, 0.3), "std": (0.5, 0.6, 0.7)},
    ],
    ids=["shortest", "squash", "longest"],
)
def test_crop_and_normalise_are_open_clips_transform_to_the_last_bit(mode, settings):
    preprocessing = Preprocessing.of(settings)
    transform = image_transform_v2(PreprocessCfg(**settings), False)
    crop = preprocessing.crop
    for image in pictures(mode):
        crop_HW3 = crop(image)
        assert crop_HW3.dtype == np.uint8
        assert crop_HW3.shape == (*preprocessing.size, 3)
        normalised = preprocessing.normalise(torch.tensor(crop_HW3)[None])
        assert torch.equal(normalised[0], transform(image))


def test_a_batch_is_normalised_like_its_images():
    preprocessing = Preprocessing.of({"size": 16})
    crops = torch.randint(0, 256, (5, 16, 16, 3), dtype=torch.uint8)
    alone = torch.cat([preprocessing.normalise(crop[None]) for crop in crops])
    assert torch.equal(preprocessing.normalise(crops), alone)


def test_preprocessing_is_the_architectures_with_the_jobs_changes(small):
    kept = load(small.config, *small.checkpoints).preprocessing
    assert kept.size == (32, 32)
    assert as_values(kept.config) == asdict(PreprocessCfg(size=(32, 32)))  # open_clip's own
    changes = {"mean": (0.1, 0.2, 0.3), "resize_mode": "squash"}
    changed = load(small.config, *small.checkpoints, preprocess=changes).preprocessing
    assert changed.config.mean == (0.1, 0.2, 0.3)
    assert changed.config.resize_mode == "squash"
    assert changed.config.std == kept.config.std
    assert changed.size == (32, 32)


# Architectures and logits


@pytest.mark.parametrize("changes", TOWERS.values(), ids=TOWERS)
def test_logits_are_those_of_open_clips_features_and_the_head(tmp_path, changes):
    config = write_config(tmp_path / "tower.json", **changes)
    clips = [make_clip(seed, **changes) for seed in (0, 1)]
    states = [state_of(clip, seed) for seed, clip in enumerate(clips)]
    experts = load(config, *(saved(tmp_path / f"{i}.pt", state) for i, state in enumerate(states)))
    assert experts.head_count(CHECKPOINT_HEAD) == CLASSES
    size = changes.get("vision_cfg", MODEL_CONFIG["vision_cfg"])["image_size"]
    pixels = torch.randn(3, 3, size, size)
    found = []
    for clip, state, merged in zip(clips, states, experts.states, strict=True):
        with torch.inference_mode():
            features = clip.encode_image(pixels, normalize=True)
            found.append(experts.classifier(merged, CPU, torch.float32)(pixels))
        expected = features @ state["classification_head.weight"].T
        torch.testing.assert_close(found[-1], expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(*found, atol=1e-2)


@pytest.mark.parametrize("name", ["ModifiedResNet", "timm ResNet"])
def test_integer_buffers_stay_integers(tmp_path, name):
    config = write_config(tmp_path / "tower.json", **TOWERS[name])
    path = saved(tmp_path / "a.pt", state_of(make_clip(0, **TOWERS[name]), 0))
    state = load(config, path, path).states[0]
    counters = [key for key, tensor in state.items() if not tensor.is_floating_point()]
    assert counters
    assert all(key.endswith("num_batches_tracked") for key in counters)


def test_a_head_has_its_bias(small):
    experts = load(small.config, *small.checkpoints[:2])
    model = experts.classifier(experts.states[0], CPU, torch.float32)
    without = dict(experts.states[0]) | {"heads.checkpoint.bias": torch.zeros(CLASSES)}
    pixels = torch.randn(2, 3, 32, 32)
    difference = model(pixels) - experts.classifier(without, CPU, torch.float32)(pixels)
    expected = expert_state(0)["classification_head.bias"].expand(2, -1)
    torch.testing.assert_close(difference, expected, rtol=1e-5, atol=1e-5)


def test_classifiers_share_nothing(small):
    experts = load(small.config, *small.checkpoints[:2])
    pixels = torch.randn(2, 3, 32, 32)
    first = experts.classifier(experts.states[0], CPU, torch.float32)
    before = first(pixels)
    experts.classifier(experts.states[1], CPU, torch.float32)
    assert torch.equal(first(pixels), before)
    assert not any(parameter.requires_grad for parameter in first.parameters())


def test_the_head_is_float32_under_a_tower_of_half_precision(small):
    experts = load(small.config, *small.checkpoints[:2])
    model = experts.classifier(experts.states[0], CPU, torch.bfloat16)
    assert next(model.visual.parameters()).dtype == torch.bfloat16
    logits = model(torch.randn(2, 3, 32, 32).bfloat16())
    assert logits.dtype == torch.float32


def test_built_in_architectures_have_open_clips_names(tmp_path):
    message = refused("ViT-B32", "a.pt", "b.pt")
    assert "Unknown architecture 'ViT-B32'" in message
    assert "Did you mean" in message
    assert "ViT-B-32" in message
    assert ".json" in message


def test_two_configs_of_one_file_name_are_kept_apart(tmp_path):
    wide = copy.deepcopy(MODEL_CONFIG["vision_cfg"]) | {"width": 64}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    narrow_config = write_config(tmp_path / "a" / "same.json")
    wide_config = write_config(tmp_path / "b" / "same.json", vision_cfg=wide)
    narrow_state = saved(tmp_path / "n.pt", state_of(make_clip(0), 0))
    wide_state = saved(tmp_path / "w.pt", state_of(make_clip(0, vision_cfg=wide), 0))
    for config, path, width in ((narrow_config, narrow_state, 32), (wide_config, wide_state, 64)):
        state = load(config, path, path).states[0]
        assert state["visual.class_embedding"].shape == (width,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no JSON object"),
        ("[]", "no JSON object"),
        (json.dumps({"embed_dim": 16}), "lacks text_cfg, vision_cfg"),
        (json.dumps(MODEL_CONFIG | {"vision_cfg": {"heads": 3}}), "'heads'"),
        (json.dumps(MODEL_CONFIG | {"vision_cfg": "ViT"}), "cannot build"),
        (json.dumps(MODEL_CONFIG | {"vision_cfg": {"head_width": 0}}), "cannot build"),
        (json.dumps(MODEL_CONFIG | {"vision_cfg": {"timm_model_name": "no_net"}}), "no_net"),
    ],
)
def test_a_bad_model_config_is_refused_by_name(tmp_path, small, content, message):
    path = tmp_path / "bad.json"
    path.write_text(content)
    found = refused(str(path), *small.checkpoints[:2])
    assert message in found
    assert str(path) in found


def test_a_missing_model_config_is_refused(tmp_path, small):
    message = refused(str(tmp_path / "none.json"), *small.checkpoints[:2])
    assert "model config" in message
    assert "does not exist" in message


# Layouts of checkpoints


@pytest.fixture(scope="module")
def whole() -> dict[str, torch.Tensor]:
    """A checkpoint in open_clip's layout, with its text tower and a head."""
    return state_of(make_clip(3), 3)


def naver(state):
    """The layout of naver-ai/dawin: the whole CLIP under `model.`, the head beside it."""
    return {k if k.startswith("classification_head") else f"model.{k}": v for k, v in state.items()}


LAYOUTS = {
    "naver-ai/dawin": naver,
    "visual tower alone": lambda state: {
        k: v for k, v in state.items() if k.startswith(("visual.", "classification_head."))
    },
    "DataParallel": lambda state: {f"module.{k}": v for k, v in state.items()},
    "DataParallel of naver-ai/dawin": lambda state: {
        f"module.{k}": v for k, v in naver(state).items()
    },
    "nested": lambda state: {"epoch": 3, "name": "x", "state_dict": state},
    "nested DataParallel": lambda state: {
        "state_dict": {f"module.{k}": v for k, v in state.items()}
    },
    "parameters": lambda state: {k: torch.nn.Parameter(v) for k, v in state.items()},
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_holds_the_same_expert(tmp_path, small, whole, layout):
    reference = saved(tmp_path / "reference.pth", whole)
    other = saved(tmp_path / "other.bin", layout(whole))
    first, second = load(small.config, reference, other).states
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_safetensors_hold_the_same_expert(tmp_path, small, whole):
    save_file(naver(whole), tmp_path / "a.safetensors")
    pt = saved(tmp_path / "a.pt", whole)
    first, second = load(small.config, pt, str(tmp_path / "a.safetensors")).states
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_meets_single_and_scores_as_its_own_values(tmp_path, small, whole, dtype):
    half = {name: tensor.to(dtype) for name, tensor in whole.items()}
    save_file(half, tmp_path / "half.safetensors")
    rounded = saved(tmp_path / "rounded.pt", {name: t.float() for name, t in half.items()})
    experts = load(small.config, rounded, str(tmp_path / "half.safetensors"))
    pixels = torch.randn(2, 3, 32, 32)
    first, second = (
        experts.classifier(state, CPU, torch.float32)(pixels) for state in experts.states
    )
    assert torch.equal(first, second)


def test_checkpoints_that_are_in_memory_are_not_read_again(small, whole):
    experts = tuple(ExpertConfig(name=name, checkpoint="nowhere.pt") for name in ("a", "b"))
    config = ModelConfig(architecture=small.config)
    spec = ModelSpec(config=config, experts=experts, base=None, heads=HEADS)
    loaded = load_experts(spec, {"nowhere.pt": whole})
    assert torch.equal(
        loaded.states[1]["heads.checkpoint.weight"], whole["classification_head.weight"]
    )


def test_the_base_of_task_vectors_is_no_expert(small):
    experts = tuple(ExpertConfig(name=f"e{i}", checkpoint=small.checkpoints[i]) for i in (1, 2))
    config = ModelConfig(architecture=small.config)
    spec = ModelSpec(config=config, experts=experts, base=small.checkpoints[0], heads=())
    loaded = load_experts(spec)
    assert len(loaded.states) == 2
    assert torch.equal(loaded.base["visual.proj"], expert_state(0)["visual.proj"])


# Zero-shot heads

NAMES = ("red fox", "grey wolf", "a lion")
PROMPTS = ("a photo of a {}.", "art of the {c}")


@pytest.fixture
def texts(tmp_path):
    """Files of class names and templates."""
    (tmp_path / "names.txt").write_text("red fox\n\n  grey wolf  \na lion\n")
    (tmp_path / "templates.txt").write_text("\n".join(PROMPTS) + "\n\n")
    return str(tmp_path / "names.txt"), str(tmp_path / "templates.txt")


@pytest.mark.parametrize("custom_text", [False, True])
def test_a_zero_shot_head_is_open_clips_times_the_logit_scale(tmp_path, texts, custom_text):
    config = write_config(tmp_path / "m.json", **({"custom_text": True} if custom_text else {}))
    clips = [make_clip(seed) for seed in (0, 1)]
    clips[1].logit_scale.data.fill_(1.5)
    paths = [saved(tmp_path / f"{i}.pt", clip.state_dict()) for i, clip in enumerate(clips)]
    head = resolve_head(ModelConfig(architecture=config), False, "set", *texts)
    assert head.zero_shot
    assert head.class_names == NAMES
    experts = load(config, *paths, heads=(head,))
    templates = [prompt.replace("{c}", "{}") for prompt in PROMPTS]
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    for clip, state in zip(clips, experts.states, strict=True):
        classifier = open_clip.build_zero_shot_classifier(clip, tokenizer, NAMES, templates)
        expected = clip.logit_scale.exp() * classifier.T
        weight = state[f"heads.{head.key}.weight"]
        torch.testing.assert_close(weight, expected.detach(), rtol=1e-6, atol=1e-6)
        assert not state[f"heads.{head.key}.bias"].any()


def test_heads_of_several_data_sets_stand_side_by_side(tmp_path, small, texts, whole):
    path = saved(tmp_path / "a.pt", whole)
    model = ModelConfig(architecture=small.config, head="zero_shot")
    own = resolve_head(model, True, "set", *texts)
    experts = load(small.config, path, path, heads=(HeadSpec(), own))
    classifier = experts.classifier(experts.states[0], CPU, torch.float32)
    pixels = torch.randn(2, 3, 32, 32)
    assert classifier(pixels).shape == (2, CLASSES)
    assert classifier(pixels, own.key).shape == (2, len(NAMES))


def test_a_checkpoint_without_a_text_tower_makes_no_zero_shot_head(small, texts):
    head = resolve_head(
        ModelConfig(architecture=small.config, head="zero_shot"), True, "set", *texts
    )
    message = refused(small.config, *small.checkpoints[:2], heads=(head,))
    assert "'e0'" in message
    assert small.checkpoints[0] in message
    assert "text tower" in message


def test_the_checkpoints_head_is_taken_where_there_is_one(texts):
    auto = ModelConfig(architecture="a", class_names=texts[0])
    assert resolve_head(auto, True, "set", None, None) == HeadSpec()
    assert resolve_head(auto, False, "set", None, None).class_names == NAMES
    forced = ModelConfig(architecture="a", class_names=texts[0], head="zero_shot")
    assert resolve_head(forced, True, "set", None, None).zero_shot


def test_a_data_sets_own_names_and_templates_win_and_make_a_head_of_their_own(texts):
    model = ModelConfig(architecture="a", class_names="imagenet")
    common, own = (resolve_head(model, False, "set", names, None) for names in (None, texts[0]))
    assert len(common.class_names) == 1000
    assert own.class_names == NAMES
    other = resolve_head(model, False, "set", texts[0], texts[1])
    assert len({common.key, own.key, other.key}) == 3
    assert resolve_head(model, False, "another", texts[0], None) == own


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("auto", ["no classification_head.weight", "'set'", "model.class_names"]),
        ("zero_shot", ["'set'", "zero-shot head", "model.class_names"]),
        ("checkpoint", ["no classification_head.weight", "head: zero_shot"]),
    ],
)
def test_a_head_that_cannot_be_had_is_refused(head, message):
    with pytest.raises(UserError) as caught:
        resolve_head(ModelConfig(architecture="a", head=head), False, "set", None, None)
    assert all(part in str(caught.value) for part in message)


def test_the_message_about_class_names_does_not_deny_a_head_that_is_there():
    model = ModelConfig(architecture="a", head="zero_shot")
    with pytest.raises(UserError) as caught:
        resolve_head(model, True, "set", None, None)
    assert "bring no classification_head" not in str(caught.value)


def test_class_names_and_templates_are_known_lists_or_files(texts):
    assert len(read_class_names("imagenet")) == 1000
    assert read_class_names(texts[0]) == NAMES
    assert len(read_templates("openai-imagenet")) == 80
    assert [template.format("x") for template in read_templates(texts[1])] == [
        "a photo of a x.",
        "art of the x",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [("a photo of a cat", "'a photo of a cat'.*one {}"), ("{} and {}", "one {}"), ("\n", "empty")],
)
def test_a_template_without_one_place_for_the_name_is_refused(tmp_path, content, message):
    path = tmp_path / "templates.txt"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read_templates(str(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("read", "known"), [(read_class_names, "imagenet"), (read_templates, "simple-imagenet")]
)
def test_unknown_lists_are_refused_with_the_known_ones(tmp_path, read, known):
    with pytest.raises(UserError, match=rf"'birds'.*{known}.*\.txt"):
        read("birds")
    with pytest.raises(UserError, match="does not exist"):
        read(str(tmp_path / "none.txt"))


# What is refused


class Intruder:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_a_pickle_is_refused_and_its_code_is_not_run(tmp_path, kind):
    state = {"visual.proj": torch.zeros(2), "extra": Intruder(tmp_path / "created")}
    path = tmp_path / "evil.pt"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Intruder(tmp_path / "created"), protocol=2))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(UserError) as caught:
        read_checkpoint(str(path), "ViT-B-32")
    assert not (tmp_path / "created").exists()
    assert str(path) in str(caught.value)
    assert "safetensors" in str(caught.value)


def test_unpickling_would_have_run_its_code(tmp_path):
    torch.save(Intruder(tmp_path / "created"), tmp_path / "evil.pt")
    torch.load(tmp_path / "evil.pt", weights_only=False).close()
    assert (tmp_path / "created").exists()


def test_a_pickled_module_is_refused_with_a_remedy(tmp_path):
    path = saved(tmp_path / "model.pt", make_clip(0).visual)
    with pytest.raises(UserError, match=r"model\.pt.*no plain state dict.*state_dict.*safetensors"):
        read_checkpoint(path, "ViT-B-32")


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_truncated_safetensors_are_refused(tmp_path, small, kept):
    with open(small.checkpoints[0], "rb") as stream:
        data = stream.read()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(data[:kept])
    with pytest.raises(UserError, match=r"cut\.safetensors.*no valid safetensors"):
        read_checkpoint(str(path), small.config)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict_that_is_cut_anywhere_is_refused(tmp_path, zipped):
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, buffer, _use_new_zipfile_serialization=zipped)
    data, path = buffer.getvalue(), tmp_path / "cut.pt"
    for kept in range(0, len(data), 7):
        path.write_bytes(data[:kept])
        with pytest.raises(UserError, match=r"cut\.pt"):
            read_checkpoint(str(path), "ViT-B-32")


@pytest.mark.parametrize(
    "content", [[torch.zeros(2)], {"a": 1}, torch.zeros(2), {0: torch.ones(1)}], ids=type
)
def test_a_file_without_named_tensors_is_refused(tmp_path, content):
    path = saved(tmp_path / "odd.pt", content)
    with pytest.raises(UserError, match=r"odd\.pt.*no tensors by name.*state dict"):
        read_checkpoint(path, "ViT-B-32")


def test_a_missing_checkpoint_is_refused(tmp_path, small):
    message = refused(small.config, small.checkpoints[0], str(tmp_path / "none.pt"))
    assert f"checkpoint '{tmp_path}/none.pt'" in message
    assert "does not exist" in message


def test_an_unknown_pretrained_tag_is_refused_with_the_known_ones(small):
    with pytest.raises(UserError, match=r"'openia'.*\.safetensors.*'ViT-B-32'.*openai"):
        read_checkpoint("openia", "ViT-B-32")
    with pytest.raises(UserError, match=r"'openai'.*neither a file"):
        read_checkpoint("openai", small.config)


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path, small):
    deeper = MODEL_CONFIG["vision_cfg"] | {"layers": 3}
    config = write_config(tmp_path / "deep.json", vision_cfg=deeper)
    message = refused(config, *small.checkpoints[:2])
    assert "'e0'" in message
    assert small.checkpoints[0] in message
    assert "lacks 12 tensors such as 'visual.transformer.resblocks.2." in message
    assert "model.architecture" in message
    deep = saved(tmp_path / "deep.pt", state_of(make_clip(0, vision_cfg=deeper), 0))
    message = refused(small.config, small.checkpoints[0], deep)
    assert "'e1'" in message
    assert "has 12 others such as 'visual.transformer.resblocks.2." in message


def test_a_tensor_of_another_shape_is_refused_with_both_shapes(tmp_path, small, whole):
    wrong = whole | {"visual.proj": torch.zeros(32, 8)}
    message = refused(small.config, small.checkpoints[0], saved(tmp_path / "a.pt", wrong))
    assert "'e1'" in message
    assert "'visual.proj' [32, 8] where the architecture has [32, 16]" in message


def test_heads_of_other_numbers_of_classes_are_refused(tmp_path, small, whole):
    wrong = whole | {"classification_head.weight": torch.zeros(CLASSES + 1, 16)}
    message = refused(small.config, small.checkpoints[0], saved(tmp_path / "a.pt", wrong))
    assert "[7, 16] in 'e1' but [6, 16] in 'e0'" in message


@pytest.mark.parametrize("shape", [(CLASSES, 15), (CLASSES,)])
def test_a_head_that_does_not_fit_the_tower_is_refused(tmp_path, small, whole, shape):
    wrong = whole | {"classification_head.weight": torch.zeros(shape)}
    message = refused(small.config, small.checkpoints[0], saved(tmp_path / "a.pt", wrong))
    assert f"'classification_head.weight' of 'e1' has shape {list(shape)}" in message
    assert "expected [classes, 16]" in message


def test_a_bias_that_does_not_fit_its_head_is_refused(tmp_path, small, whole):
    wrong = whole | {"classification_head.bias": torch.zeros(CLASSES + 1)}
    path = saved(tmp_path / "a.pt", wrong)
    message = refused(small.config, path, path)
    assert "'classification_head.bias' of 'e0' has shape [7]" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["visual.proj", "classification_head.weight"])
def test_values_that_are_not_finite_are_refused_with_their_tensor(
    tmp_path, small, whole, name, value
):
    wrong = {key: tensor.clone() for key, tensor in whole.items()}
    wrong[name][0, 0] = value
    message = refused(small.config, small.checkpoints[0], saved(tmp_path / "a.pt", wrong))
    assert name.split(".")[-1] in message
    assert "'e1'" in message
    assert "1 NaN or infinite" in message


def test_an_expert_without_a_head_is_refused(tmp_path, small, whole):
    headless = {k: v for k, v in whole.items() if not k.startswith("classification_head")}
    path = saved(tmp_path / "headless.pt", headless)
    message = refused(small.config, small.checkpoints[0], path)
    assert f"'e1' ({path!r}) has no classification_head.weight" in message
    assert "head: zero_shot" in message


def test_images_become_other_logits(small):
    # guards the tests above: a model that ignored its input would pass most of them
    experts = load(small.config, *small.checkpoints[:2])
    crop = experts.preprocessing.crop
    crops = torch.tensor(np.stack([crop(Image.open(io.BytesIO(i))) for i in make_images(4)]))
    model = experts.classifier(experts.states[0], CPU, torch.float32)
    logits_BC = model(experts.preprocessing.normalise(crops))
    assert logits_BC.std(dim=0).min() > 0.05
