"""What a checkpoint is, by names and shapes; its values are not read."""

import json
import struct
from contextlib import contextmanager
from types import SimpleNamespace

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from dawin_ray.errors import UserError
from dawin_ray.models import has_shapes_of, outline, outlines, preprocessing_of
from dawin_ray.models.experts import create_model
from dawin_ray.models.spec import ModelConfig
from dawin_ray.storage import open_stream
from tests.conftest import CLASSES, expert_state, whole_state


def header_of(path, tensors):
    """A safetensors file whose values are missing."""
    header, end = {}, 0
    for name, shape in tensors.items():
        size = 4 * int(torch.Size(shape).numel())
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    data = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(data)) + data)
    return str(path)


@pytest.fixture(scope="module")
def shapes():
    """Of a ViT-B-32, as its names alone."""
    with torch.device("meta"):
        model = open_clip.model.CLIP(**open_clip.get_model_config("ViT-B-32"))
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def test_an_expert_with_a_head(small):
    found = outline(small.checkpoints[0])
    assert (found.classes, found.tower, found.texts) == (CLASSES, True, False)
    assert found.architectures == ()
    assert has_shapes_of(found, small.config)
    assert not has_shapes_of(found, "ViT-B-32")


def test_a_model_with_a_text_tower_under_a_wrapping(tmp_path):
    torch.save({"state_dict": {f"module.{k}": v for k, v in whole_state(0).items()}},
               tmp_path / "whole.pt")  # fmt: skip
    found = outline(str(tmp_path / "whole.pt"))
    assert (found.classes, found.texts) == (None, True)
    assert all(tensor.is_meta for tensor in found.shapes.values())


def test_the_header_alone_tells_the_architecture(tmp_path, shapes):
    """The plain name before its variants; a text tower leaves fewer."""
    whole = outline(header_of(tmp_path / "whole.safetensors", shapes))
    assert whole.architectures == ("ViT-B-32", "ViT-B-32-quickgelu")
    assert whole.texts
    tower = {name: shape for name, shape in shapes.items() if name.startswith("visual.")}
    tower = {f"model.{name}": shape for name, shape in tower.items()}
    alone = outline(
        header_of(tmp_path / "t.safetensors", tower | {"classification_head.weight": (9, 512)})
    )
    assert alone.architectures[:2] == ("ViT-B-32", "ViT-B-32-quickgelu")
    assert (alone.texts, alone.classes) == (False, 9)
    assert alone.tower_shapes == whole.tower_shapes


def test_a_head_alone_is_told(tmp_path):
    save_file({"weight": torch.zeros(7, 16)}, tmp_path / "head.safetensors")
    found = outline(str(tmp_path / "head.safetensors"))
    assert (found.tower, found.classes) == (False, 7)


def test_a_tag_is_looked_up_and_its_activation_chooses():
    assert "ViT-B-32-quickgelu" in outline("openai").architectures
    assert "ViT-B-32" not in outline("openai").architectures
    assert "ViT-B-32" in outline("laion2b_s34b_b79k").architectures
    with pytest.raises(UserError, match="nor one of open_clip's pretrained tags"):
        outline("no_such_tag")


def test_what_would_be_unpickled_is_refused_with_the_command(tmp_path):
    model = torch.nn.Linear(2, 2)
    torch.save(model, tmp_path / "model.pt")
    with pytest.raises(UserError, match=rf"dawin-ray convert {tmp_path}/model.pt {tmp_path}/model"):
        outline(str(tmp_path / "model.pt"))


@pytest.mark.parametrize("header", [b"{", b"{}x", b'{"a": 3}', b'{"a": {"shape": [-1]}}'])
def test_a_damaged_header_is_an_error(tmp_path, header):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(UserError, match="header cannot be read"):
        outline(str(path))


def test_other_models_are_named(tmp_path):
    save_file({"fc.weight": torch.zeros(2, 2)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"no image tower.*classifier of timm or torchvision"):
        outline(str(tmp_path / "x.safetensors"))


def test_the_preprocessing_is_that_of_the_model(small):
    experts = {"a": small.checkpoints[0]}
    built = create_model(ModelConfig(architecture=small.config)).visual.preprocess_cfg
    found = preprocessing_of(small.config, experts).to_values()["config"]
    assert {key: found[key] for key in ("mean", "std", "interpolation", "resize_mode")} == {
        key: built[key] for key in ("mean", "std", "interpolation", "resize_mode")
    }
    assert preprocessing_of(small.config, experts).size == (32, 32)
    assert preprocessing_of("ViT-L-14-336", experts).size == (336, 336)


def test_of_a_large_file_the_header_alone_is_read(tmp_path, monkeypatch):
    path = tmp_path / "large.safetensors"
    save_file(expert_state(0) | {"more": torch.zeros(10_000_000)}, path)
    read = []

    @contextmanager
    def counting(address, what):
        with open_stream(address, what) as stream:
            yield SimpleNamespace(read=lambda size: read.append(size) or stream.read(size))

    monkeypatch.setattr(outlines, "open_stream", counting)
    assert outline(str(path)).classes == CLASSES
    assert 0 < sum(read) < 10_000
