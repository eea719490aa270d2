"""Checkpoints in the layout of the reference, as its programs pickle them: whole modules.

The classes are made here under the names that the reference's have; a file that is read back has
no use for them.
"""

import sys
import types
from contextlib import contextmanager

import open_clip
import torch
from torch import nn
from torchvision import transforms

from tests.conftest import MODEL_CONFIG


class ImageEncoder(nn.Module):
    """src/modeling.py: open_clip's model without its text transformer, and its transforms."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        del self.model.transformer
        self.train_preprocess = self.val_preprocess = open_clip.image_transform(32, is_train=False)
        self.cache_dir = None


class ClassificationHead(nn.Linear):
    """src/modeling.py: a linear layer that says whether features are normalised before it."""

    def __init__(self, classes, features, normalize=True):
        super().__init__(features, classes)
        self.normalize = normalize


class ImageClassifier(nn.Module):
    """src/modeling.py: the two in one."""

    def __init__(self, image_encoder, classification_head):
        super().__init__()
        self.image_encoder = image_encoder
        self.classification_head = classification_head
        self.train_preprocess = transforms.Compose([transforms.Resize(32), transforms.ToTensor()])


@contextmanager
def modules(name="src.modeling"):
    """The classes under their names, which pickle looks up."""
    module, classes = types.ModuleType(name), (ImageEncoder, ClassificationHead, ImageClassifier)
    before = {kind: kind.__module__ for kind in classes}
    for kind in classes:
        kind.__module__ = name
        setattr(module, kind.__name__, kind)
    parents = {p: types.ModuleType(p) for p in [name.rpartition(".")[0]] if p}
    sys.modules |= {**parents, name: module}
    try:
        yield
    finally:
        for known in [name, *parents]:
            del sys.modules[known]
        for kind in classes:
            kind.__module__ = before[kind]


def image_encoder(seed=0, **changes):
    torch.manual_seed(seed)
    return ImageEncoder(open_clip.model.CLIP(**MODEL_CONFIG, **changes))


KINDS = {
    "zip 2": {"pickle_protocol": 2},
    "zip 4": {"pickle_protocol": 4},
    "zip 5": {"pickle_protocol": 5},
    "legacy": {"_use_new_zipfile_serialization": False},
    "legacy 4": {"_use_new_zipfile_serialization": False, "pickle_protocol": 4},
}


def saved(path, content, kind="zip 2", name="src.modeling"):
    """The path as a text, with the content as torch.save writes it."""
    with modules(name):
        torch.save(content, path, **KINDS[kind])
    return str(path)
