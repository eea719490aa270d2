"""Pickled models of the reference's layout become the same tensors, and others are refused."""

import contextlib
import hashlib
import io
import json
import subprocess
import sys
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

from dawin_ray.cli import app
from dawin_ray.errors import UserError
from dawin_ray.models.checkpoints import read_tensors
from dawin_ray.models.convert.convert import convert_checkpoint
from dawin_ray.models.experts import read_checkpoint
from tests.conftest import CLASSES, expert_state, whole_state
from tests.unit.models.convert.reference import (
    KINDS,
    ClassificationHead,
    ImageClassifier,
    image_encoder,
    saved,
)  # fmt: skip


def equal(got, wanted):
    assert got.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert (got[name].dtype, got[name].shape) == (tensor.dtype, tensor.shape), name
        assert torch.equal(got[name], tensor), name


def converted(source, folder, **options):
    convert_checkpoint(str(source), str(folder / "out.safetensors"), **options)
    return load_file(folder / "out.safetensors")


def refusal(source, folder, **options):
    with pytest.raises(UserError) as caught:
        convert_checkpoint(str(source), str(folder / "out.safetensors"), **options)
    assert not (folder / "out.safetensors").exists()
    assert str(source) in str(caught.value)
    return str(caught.value)


def without(prefix, state):
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


# Models of the reference


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_encoder_is_its_state_dict(tmp_path, kind):
    encoder = image_encoder()
    got = converted(saved(tmp_path / "a.pt", encoder, kind), tmp_path)
    equal(got, without("model.", encoder.state_dict()))
    assert {"visual.proj", "token_embedding.weight", "logit_scale"} <= got.keys()
    assert not any(name.startswith("transformer.") for name in got)


@pytest.mark.parametrize("name", ["modeling", "src.modeling"])
@pytest.mark.parametrize("kind", ["zip 2", "legacy"])
def test_a_head_has_the_name_that_jobs_read(tmp_path, kind, name):
    head = ClassificationHead(7, 16)
    got = converted(saved(tmp_path / "head.pt", head, kind, name), tmp_path)
    equal(got, {f"classification_head.{k}": v for k, v in head.state_dict().items()})


def test_a_classifier_is_tower_and_head(tmp_path, small):
    encoder, head = image_encoder(), ClassificationHead(CLASSES, 16)
    source = saved(tmp_path / "a.pt", ImageClassifier(encoder, head), "legacy")
    got = converted(source, tmp_path)
    equal(
        got,
        without("model.", encoder.state_dict())
        | {f"classification_head.{k}": v for k, v in head.state_dict().items()},
    )
    equal(read_checkpoint(str(tmp_path / "out.safetensors"), small.config), got)


@pytest.mark.parametrize("normalize", [False, None, 1])
def test_a_head_over_features_that_are_not_normalised_is_refused(tmp_path, normalize):
    head = ClassificationHead(7, 16, normalize)
    assert f"normalize = {normalize}" in refusal(saved(tmp_path / "h.pt", head), tmp_path)
    model = ImageClassifier(image_encoder(), head)
    assert f"normalize = {normalize}" in refusal(saved(tmp_path / "m.pt", model), tmp_path)


def named(monkeypatch, kind, module, name):
    """The class under the name of one that is no longer there."""
    kind.__module__, kind.__name__, kind.__qualname__ = module, name, name
    monkeypatch.setattr(sys.modules[module], name, kind, raising=False)


@pytest.mark.parametrize("kind", KINDS)
def test_classes_of_earlier_versions_are_read(tmp_path, monkeypatch, kind):
    class Linear(nn.Linear):
        pass

    class Transformer(type(image_encoder().model.visual)):
        pass

    named(monkeypatch, Linear, "torch.nn.modules.linear", "_LinearWithBias")  # torch 1.8
    named(monkeypatch, Transformer, "open_clip.model", "VisualTransformer")  # open_clip 2.0.2
    encoder = image_encoder(quick_gelu=True)
    encoder.model.visual.__class__ = Transformer
    for block in encoder.model.visual.transformer.resblocks:
        block.attn.out_proj.__class__ = Linear
    source = saved(tmp_path / "a.pt", encoder, kind)
    with open(source, "rb") as stream:
        data = stream.read()
    assert b"_LinearWithBias" in data
    assert b"VisualTransformer" in data
    equal(converted(source, tmp_path), without("model.", encoder.state_dict()))


class Buffers(nn.Module):
    """Shared, half-precision, transient and absent tensors, and views of a larger memory."""

    def __init__(self):
        super().__init__()
        whole = torch.arange(24.0).reshape(4, 6)
        self.register_buffer("part", whole[1:3, ::2])
        self.register_buffer("turned", whole.T)
        self.register_buffer("empty", torch.zeros(0, 3))
        self.register_buffer("count", torch.tensor(5))
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("transient", torch.ones(2), persistent=False)
        self.register_buffer("absent", None)
        self.register_parameter("none", None)
        self.halved = nn.Parameter(torch.randn(3).half())
        self.brain = nn.Parameter(torch.randn(3).bfloat16(), requires_grad=False)
        self.tiny = nn.Parameter(torch.randn(4).to(torch.float8_e4m3fn), requires_grad=False)
        self.odd = nn.Parameter(torch.arange(3).to(torch.uint16), requires_grad=False)
        self.tied = self.halved
        self.halved.note = "an attribute"
        self.gone = None
        self.add_module("nothing", None)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_tensor_is_as_in_the_state_dict(tmp_path, monkeypatch, kind):
    named(monkeypatch, Buffers, "open_clip.model", "Buffers")
    model = Buffers()
    got = converted(saved(tmp_path / "a.pt", model, kind), tmp_path)
    wanted = model.state_dict()
    assert "transient" not in wanted
    assert got.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert (got[name].dtype, got[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(*(t.reshape(-1).view(torch.uint8) for t in (got[name], tensor)))


def test_neither_open_clip_nor_torchvision_is_imported_to_read(tmp_path):
    source = saved(tmp_path / "a.pt", image_encoder())
    program = (
        "import sys; sys.modules['open_clip'] = sys.modules['torchvision'] = None\n"
        "import importlib.util\n"
        "sys.modules['dawin_ray.models'] = type(sys)('dawin_ray.models')\n"
        "import dawin_ray; sys.modules['dawin_ray.models'].__path__ = [dawin_ray.__path__[0] + "
        "'/models']\n"
        "from dawin_ray.models.convert.archive import Archive\n"
        "from dawin_ray.models.convert.modules import Tensors\n"
        f"archive = Archive(open({source!r}, 'rb').read(), 'a.pt')\n"
        "print(len(Tensors(archive).of(archive.content)))\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout == f"{len(image_encoder().state_dict())}\n", result.stderr


def test_the_same_file_makes_the_same_bytes(tmp_path):
    source = saved(tmp_path / "a.pt", image_encoder())
    digests = set()
    for _ in range(2):
        converted(source, tmp_path)
        digests.add(hashlib.sha256((tmp_path / "out.safetensors").read_bytes()).hexdigest())
    assert len(digests) == 1


# State dicts


def under(prefix, state):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize("kind", ["zip 2", "zip 4", "legacy"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod."])
@pytest.mark.parametrize("key", [None, "model", "state_dict", "ema"])
def test_wrappings_and_dictionaries_around_state_dicts(tmp_path, kind, prefix, key):
    state = expert_state(0)
    content = under(prefix, state)
    content = content if key is None else {key: content, "epoch": 3, "step": torch.tensor(2)}
    equal(converted(saved(tmp_path / "a.ckpt", content, kind), tmp_path), state)


def test_one_of_several_state_dicts_is_named(tmp_path):
    first, second = expert_state(0), expert_state(1)
    source = saved(tmp_path / "a.pt", {"model": first, "optimizer": {"ema": second}}, "zip 4")
    assert "('model', 'optimizer.ema')" in (message := refusal(source, tmp_path))
    assert "--part" in message
    assert "no state dict 'emma'; there are: 'model'" in refusal(source, tmp_path, part="emma")
    equal(converted(source, tmp_path, part="optimizer.ema"), second)


def test_a_module_within_a_dictionary(tmp_path):
    encoder = image_encoder()
    source = saved(tmp_path / "a.pt", {"ema": encoder, "best": 0.5, "done": {1, 2}}, "legacy")
    equal(converted(source, tmp_path), without("model.", encoder.state_dict()))


def test_safetensors_are_renamed_too(tmp_path):
    save_file(under("module.", expert_state(0)), tmp_path / "a.safetensors")
    equal(converted(tmp_path / "a.safetensors", tmp_path), expert_state(0))


# What a file says of itself, and what a job says of it


def test_the_command_says_what_it_wrote(tmp_path):
    shapes = {"conv1.weight": (768, 3, 32, 32), "positional_embedding": (50, 768)}
    shapes |= {"proj": (768, 512)}
    shapes |= {f"transformer.resblocks.{block}.ln_1.weight": (768,) for block in range(12)}
    state = {f"visual.{name}": torch.zeros(shape) for name, shape in shapes.items()}
    source = saved(tmp_path / "a.pt", state | {"classification_head.weight": torch.zeros(7, 512)})
    result = CliRunner().invoke(app, ["convert", source, str(tmp_path / "b.safetensors")])
    assert result.exit_code == 0, result.output
    size = (tmp_path / "b.safetensors").stat().st_size / 1e6
    assert f"b.safetensors: {len(state) + 1} tensors, {size:.1f} MB\n" in result.output
    assert "head of 7 classes\n" in result.output
    (line,) = [line for line in result.output.splitlines() if line.startswith("model.arch")]
    assert {"ViT-B-32", "ViT-B-32-quickgelu"} <= set(line.split(": ")[1].split(" or "))
    assert "ViT-B-16" not in line


def test_a_module_tells_its_activation(tmp_path):
    for quick in (False, True):
        encoder = image_encoder(quick_gelu=quick)
        encoder.model.visual.conv1 = nn.Conv2d(3, 768, 32, 32, bias=False)
        visual = encoder.model.visual
        visual.positional_embedding = nn.Parameter(torch.zeros(50, 768))
        visual.proj = nn.Parameter(torch.zeros(768, 512))
        visual.transformer.resblocks.extend([visual.transformer.resblocks[0]] * 10)
        encoder.model.positional_embedding = nn.Parameter(torch.zeros(77, 512))
        source = saved(tmp_path / "a.pt", encoder)
        found = convert_checkpoint(source, str(tmp_path / "b.safetensors")).architectures
        assert ("ViT-B-32-quickgelu" in found, "ViT-B-32" in found) == (quick, not quick)


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_says_which_command_to_run(tmp_path, small, kind):
    source = saved(tmp_path / "a b.pt", ImageClassifier(image_encoder(), nn.Identity()), kind)
    with pytest.raises(UserError, match="nothing is ever unpickled") as caught:
        read_tensors(source)
    command = f"dawin-ray convert '{source}' '{tmp_path / 'a b.safetensors'}'"
    assert command in str(caught.value)
    result = CliRunner().invoke(app, ["convert", source, str(tmp_path / "a b.safetensors")])
    assert result.exit_code == 0
    assert "visual.proj" in read_checkpoint(str(tmp_path / "a b.safetensors"), small.config)


def test_a_target_that_is_no_safetensors_file_or_the_source_is_refused(tmp_path):
    save_file(expert_state(0), tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    for target in ("a.safetensors", "b.pt"):
        result = CliRunner().invoke(
            app, ["convert", str(tmp_path / "a.safetensors"), str(tmp_path / target)]
        )
        assert result.exit_code == 2
        assert "Expected another file that ends with .safetensors" in result.output
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    assert (tmp_path / "a.safetensors").read_bytes() == data


# Hugging Face's transformers


def to_transformers(state):
    """open_clip's tensors under the names of transformers' CLIPModel."""
    renamed = {}
    names = {
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "logit_scale": "logit_scale",
    }
    parts = {
        "visual.ln_pre": "vision_model.pre_layrnorm",
        "visual.ln_post": "vision_model.post_layernorm",
        "ln_final": "text_model.final_layer_norm",
        "visual.transformer.resblocks": "vision_model.encoder.layers",
        "transformer.resblocks": "text_model.encoder.layers",
        "attn.out_proj": "self_attn.out_proj",
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    }
    for name, tensor in state.items():
        if name in ("visual.proj", "text_projection"):
            to = {"visual.proj": "visual_projection"}.get(name, name)
            renamed[f"{to}.weight"] = tensor.T.contiguous()
            continue
        new = names.get(name, name)
        for ours, theirs in parts.items() if name not in names else ():
            if new.startswith(f"{ours}.") or f".{ours}." in new:
                new = new.replace(ours, theirs, 1)
        if ".attn.in_proj_" in new:
            before, kind = new.split("attn.in_proj_")
            for part, values in zip("qkv", tensor.chunk(3), strict=True):
                renamed[f"{before}self_attn.{part}_proj.{kind}"] = values.clone()
        else:
            renamed[new] = tensor
    return renamed


def test_names_of_transformers_become_those_of_open_clip(tmp_path):
    state = whole_state(0)
    theirs = to_transformers(state)
    assert "vision_model.encoder.layers.1.self_attn.q_proj.bias" in theirs
    positions = {"vision_model.embeddings.position_ids": torch.arange(5)[None]}
    save_file(theirs | positions, tmp_path / "model.safetensors")
    equal(converted(tmp_path / "model.safetensors", tmp_path), state)
    source = saved(tmp_path / "pytorch_model.bin", under("clip.", theirs), "legacy")
    got = converted(source, tmp_path)
    equal(got, state)


def test_a_vision_model_takes_its_projection_from_its_base(tmp_path):
    base, tuned = whole_state(0), whole_state(1)
    save_file(to_transformers(base), tmp_path / "base.safetensors")
    tower = {k: v for k, v in to_transformers(tuned).items() if k.startswith("vision_model.")}
    save_file(tower, tmp_path / "tower.safetensors")
    source = tmp_path / "tower.safetensors"
    assert "--base MODEL" in refusal(source, tmp_path)
    got = converted(source, tmp_path, base=str(tmp_path / "base.safetensors"))
    of_tower = {k for k in base if k.startswith("visual.") and k != "visual.proj"}
    equal(got, {k: (tuned if k in of_tower else base)[k] for k in base})


def test_what_of_transformers_is_not_known_is_named(tmp_path):
    theirs = to_transformers(whole_state(0))
    odd = "vision_model.encoder.layers.0.self_attn.inner_norm.weight"
    save_file(theirs | {odd: torch.ones(2)}, tmp_path / "a.safetensors")
    assert odd in refusal(tmp_path / "a.safetensors", tmp_path)
    del theirs["vision_model.encoder.layers.1.self_attn.k_proj.weight"]
    save_file(theirs, tmp_path / "a.safetensors")
    message = refusal(tmp_path / "a.safetensors", tmp_path)
    assert "k_proj (weight) of the block that is 'visual.transformer.resblocks.1'" in message


# LoRA


def lora(folder, layers, **settings):
    """An adapter of peft over these layers, which are by name: (columns, rows)."""
    folder.mkdir(exist_ok=True)
    rank = settings.get("r", 2)
    tensors = {}
    for layer, (columns, rows) in layers.items():
        tensors[f"base_model.model.{layer}.lora_A.weight"] = torch.randn(rank, columns)
        tensors[f"base_model.model.{layer}.lora_B.weight"] = torch.randn(rows, rank)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "use_dora": False, **settings}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder / "adapter_model.safetensors", tensors


Q, FC = "vision_model.encoder.layers.1.self_attn.q_proj", "vision_model.encoder.layers.0.mlp.fc1"


@pytest.mark.parametrize(("settings", "scale"), [({}, 3), ({"use_rslora": True}, 6 / 2**0.5)])
def test_an_adapter_is_added_to_its_base(tmp_path, settings, scale):
    state = whole_state(0)
    save_file(to_transformers(state), tmp_path / "base.safetensors")
    source, pairs = lora(tmp_path / "lora", {Q: (32, 32), FC: (32, 128)}, **settings)
    got = converted(source, tmp_path, base=str(tmp_path / "base.safetensors"))
    changed = {}
    for layer in (Q, FC):
        a, b = (pairs[f"base_model.model.{layer}.lora_{side}.weight"] for side in "AB")
        changed[layer] = scale * b @ a
    wanted = dict(state)
    fc, attn = (f"visual.transformer.resblocks.{name}" for name in
                ("0.mlp.c_fc.weight", "1.attn.in_proj_weight"))  # fmt: skip
    wanted[fc] = state[fc] + changed[FC]
    wanted[attn] = state[attn].clone()
    wanted[attn][:32] += changed[Q]
    assert got.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(got[name], tensor, atol=1e-6, rtol=1e-6)
        assert torch.equal(got[name], state[name]) == (name not in (fc, attn))


def test_adapters_that_cannot_be_added_are_named(tmp_path):
    save_file(to_transformers(whole_state(0)), tmp_path / "base.safetensors")
    base = str(tmp_path / "base.safetensors")
    source, _ = lora(tmp_path / "lora", {Q: (32, 32)})
    assert "--base MODEL" in refusal(source, tmp_path)
    for layers, settings, message in (
        ({Q: (32, 32)}, {"use_dora": True}, "use_dora, which is no plain LoRA"),
        ({Q: (32, 32)}, {"rank_pattern": {"q": 4}}, "rank_pattern"),
        (
            {Q: (32, 16)},
            {},
            r"is [16, 2] times [2, 32] at rank 2, and the base's weight is [32, 32]",
        ),
        ({"vision_model.other": (2, 2)}, {}, "no tensor called 'vision_model.other.weight'"),
        ({f"{Q}.lora_magnitude_vector": (2, 2)}, {}, "no tensor called"),
    ):
        source, _ = lora(tmp_path / "lora", layers, **settings)
        assert message in refusal(source, tmp_path, base=base)
    save_file({"base_model.model.head.lora_C.weight": torch.ones(2)}, source)
    assert "'base_model.model.head.lora_C.weight'" in refusal(source, tmp_path, base=base)
    (tmp_path / "lora" / "adapter_config.json").unlink()
    with pytest.raises(UserError, match=r"adapter_config\.json"):
        convert_checkpoint(str(source), str(tmp_path / "out.safetensors"), base=base)


# Damaged files


@pytest.mark.parametrize("kind", ["zip 2", "zip 4", "legacy"])
def test_a_file_that_is_cut_anywhere_is_refused(tmp_path, kind):
    source = tmp_path / "a.pt"
    saved(source, {"a": torch.randn(4)}, kind)
    data = source.read_bytes()
    for kept in range(0, len(data), 7):
        source.write_bytes(data[:kept])
        refusal(source, tmp_path)


def test_a_file_whose_bits_flip_is_refused_or_read(tmp_path):
    """Whatever a byte becomes, there is a message or there are tensors."""
    source = tmp_path / "a.pt"
    saved(source, {"a": torch.randn(2)}, "legacy")
    data = source.read_bytes()
    for place in range(len(data)):
        for flip in (1, 0x80):
            changed = bytearray(data)
            changed[place] ^= flip
            source.write_bytes(changed)
            with contextlib.suppress(UserError):
                converted(source, tmp_path)


def test_an_archive_of_compressed_members_is_refused(tmp_path):
    plain = saved(tmp_path / "a.pt", {"a": torch.zeros(10_000)})
    with zipfile.ZipFile(plain) as old, io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
            for member in old.namelist():
                new.writestr(member, old.read(member))
        (tmp_path / "b.pt").write_bytes(buffer.getvalue())
    assert "compressed" in refusal(tmp_path / "b.pt", tmp_path)
