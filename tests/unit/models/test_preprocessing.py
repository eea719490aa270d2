"""A tag's preprocessing is open_clip's own for it; experts that differ are refused."""

import warnings

import open_clip
import pytest
import torch
from open_clip import factory
from open_clip.transform import PreprocessCfg, image_transform_v2

from dawin_ray.errors import UserError
from dawin_ray.models.preprocessing import (
    PreprocessConfig,
    Preprocessing,
    as_values,
    check_activation,
    described,
    doubt_about_files,
    of_experts,
    of_tag,
)
from dawin_ray.models.spec import ModelConfig
from tests.unit.models.test_experts import pictures

TAGS = open_clip.list_pretrained()
NOTHING = PreprocessConfig()
SIGLIP = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic",
          "resize_mode": "squash"}  # fmt: skip


class Empty(torch.nn.Module):
    """What open_clip asks of a model after building it, without any weights."""

    def __init__(self, vision_cfg, **_):
        super().__init__()
        self.visual = torch.nn.Module()
        size = vision_cfg.get("image_size", 224)
        self.visual.image_size = (size, size) if isinstance(size, int) else tuple(size)


@pytest.fixture
def open_clip_without_weights(monkeypatch):
    """open_clip's own way to a tag's transform, but for the download and the tensors."""
    for name in ("CLIP", "CustomTextCLIP", "CoCa"):
        monkeypatch.setattr(factory, name, Empty)
    monkeypatch.setattr(factory, "download_pretrained", lambda *a, **k: "weights.pt")
    monkeypatch.setattr(factory, "load_checkpoint", lambda *a, **k: {})
    monkeypatch.setattr(factory, "_set_model_device_and_precision", lambda *a, **k: None)


def test_every_tag_has_open_clips_transform(open_clip_without_weights):
    own = 0
    for architecture, tag in TAGS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of activations, see below
            model, _, theirs = open_clip.create_model_and_transforms(architecture, pretrained=tag)
        values, source = of_experts(architecture, {"a": tag, "b": "tuned.pt"}, NOTHING)
        config = PreprocessCfg(size=model.visual.image_size, **values)
        ours = as_values(Preprocessing.of(model.visual.preprocess_cfg).config)
        assert as_values(config) == ours, tag
        assert str(image_transform_v2(config, is_train=False)) == str(theirs), tag
        assert tag in source
        own += values != of_tag(architecture, "")
    assert len(TAGS) >= 190
    assert own > 50


def test_the_pixels_of_a_tag_are_open_clips_to_the_last_bit():
    for architecture, tag in (("ViT-B-16-SigLIP", "webli"), ("ViT-H-14-quickgelu", "dfn5b")):
        values, _ = of_experts(architecture, {"a": tag}, NOTHING)
        config = PreprocessCfg(size=40, **values)
        preprocessing = Preprocessing.of({"size": 40} | values)
        for image in pictures("RGB"):
            ours = preprocessing.normalise(torch.tensor(preprocessing.crop(image))[None])[0]
            assert torch.equal(ours, image_transform_v2(config, is_train=False)(image))


@pytest.mark.parametrize("base", [False, True], ids=["experts", "base"])
def test_tags_that_differ_are_refused_with_both(base):
    named = {"a": "laion2b_s32b_b82k", "merge.base" if base else "b": "datacomp_xl_s13b_b90k"}
    with pytest.raises(UserError) as caught:
        of_experts("ViT-L-14", named, NOTHING)
    message = str(caught.value)
    for part in ("'laion2b_s32b_b82k'", "'datacomp_xl_s13b_b90k'", "mean (0.5, 0.5, 0.5)",
                 "mean (0.4815, 0.4578, 0.4082)", "model.preprocess",
                 "'merge.base'" if base else "'b'"):  # fmt: skip
        assert part in message
    given = PreprocessConfig(mean=(0.5,) * 3)
    with pytest.raises(UserError):  # the deviations still differ
        of_experts("ViT-L-14", named, given)
    values, source = of_experts(
        "ViT-L-14", named, PreprocessConfig(mean=(0.5,) * 3, std=(0.2,) * 3)
    )
    assert values["mean"] == (0.5,) * 3
    assert values["std"] == (0.2,) * 3
    assert "model.preprocess (mean, std)" in source


def test_a_tag_goes_before_the_default_and_the_job_before_a_tag():
    assert of_experts("ViT-B-16-SigLIP", {"a": "a.pt", "b": "webli"}, NOTHING)[0] == SIGLIP
    changed = PreprocessConfig(resize_mode="shortest")
    values, source = of_experts("ViT-B-16-SigLIP", {"a": "webli"}, changed)
    assert values == SIGLIP | {"resize_mode": "shortest"}
    assert "'webli'" in source
    assert "model.preprocess (resize_mode)" in source


def test_files_have_the_default_and_the_source_says_which_tags_had_others():
    values, source = of_experts("ViT-L-14", {"a": "a.pt", "b": "b.pt"}, NOTHING)
    assert values == {key: as_values(PreprocessCfg())[key] for key in values}
    assert "default" in source
    assert "laion2b_s32b_b82k" in source
    assert "pretrained" not in of_experts("tiny.json", {"a": "a.pt"}, NOTHING)[1]


@pytest.mark.parametrize(
    ("architecture", "part"),
    [
        ("ViT-B-16-SigLIP", "mean: [0.5, 0.5, 0.5]"),
        ("PE-Core-B-16", "interpolation: bilinear, resize_mode: squash"),
        ("MobileCLIP-S1", "mean: [0.0, 0.0, 0.0], std: [1.0, 1.0, 1.0]"),
        ("ViT-H-14-CLIPA", "interpolation: bilinear"),
    ],
)
def test_files_of_an_architecture_whose_tags_all_differ_are_warned_of(architecture, part):
    files = {"a": "a.pt", "b": "b.safetensors"}
    values, _ = of_experts(architecture, files, NOTHING)
    doubt = doubt_about_files(architecture, files, values, NOTHING)
    assert part in doubt
    assert described(values) in doubt
    usual = of_tag(architecture, open_clip.list_pretrained_tags_by_model(architecture)[0])
    settled = PreprocessConfig(**usual)
    values, _ = of_experts(architecture, files, settled)
    assert doubt_about_files(architecture, files, values, settled) is None


def test_files_of_other_architectures_are_not():
    for architecture, files in (
        ("ViT-B-32", {"a": "a.pt"}),
        ("ViT-L-14", {"a": "a.pt"}),  # some tags differ, not all
        ("tiny.json", {"a": "a.pt"}),
        ("ViT-B-16-SigLIP", {"a": "a.pt", "b": "webli"}),
    ):
        values, _ = of_experts(architecture, files, NOTHING)
        assert doubt_about_files(architecture, files, values, NOTHING) is None


def test_tags_of_the_other_activation_are_refused_with_the_right_architecture():
    with pytest.raises(UserError, match=r"'openai' of 'a'.*QuickGELU.*ViT-B-32-quickgelu\."):
        check_activation("ViT-B-32", {"a": "openai"})
    with pytest.raises(UserError, match=r"RN50-quickgelu\."):
        check_activation("RN50", {"a": "a.pt", "b": "cc12m"})
    fitting = [(m, t) for m, t in TAGS if m.endswith("-quickgelu") or m == "ViT-B-16-SigLIP"]
    for architecture, tag in fitting:
        assert check_activation(architecture, {"a": tag}) is None
    assert check_activation("ViT-B-32", {"a": "a.pt"}) is None
    assert check_activation("tiny.json", {"a": "a.pt"}) is None
    # open_clip has no architecture for this one: a warning is all that can be given
    assert "may be wrong" in check_activation("roberta-ViT-B-32", {"a": "laion2b_s12b_b32k"})


def test_a_config_of_the_architecture_settles_the_size_alone():
    assert "size" not in of_tag("ViT-L-14-336-quickgelu", "openai")
    assert ModelConfig(architecture="a").preprocess == NOTHING
