"""Single samples by their ids, wherever they lie: which shard, where in it, and no more is read.

A folder's image is a file, a row of Parquet is in a row group that the footer tells. Of a tar, the
headers are read up to the member that is asked for, and where each sample begins is remembered; a
compressed one is read from its beginning each time.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from dawin_ray.data.datasets import Sample, Shard, Start
from dawin_ray.data.formats.registry import FORMATS, read_samples
from dawin_ray.names import shown
from dawin_ray.storage import filesystem, is_local

INDEXED_SHARDS = 64  # of which the beginnings of samples are held: some 200 bytes a sample


class NoSuchSampleError(LookupError):
    """No shard has a sample of this id."""


class SamplesById:
    """The samples of a data set's shards; may be asked by several threads."""

    def __init__(self, shards: Sequence[Shard]):
        """Of all shards of a data set, in their order."""
        self.shards = shards
        self._of_images = bool(shards) and FORMATS[shards[0].format].of_images
        self._firsts = [shard.images[0][0] for shard in shards] if self._of_images else []
        self._named = {} if self._of_images else {shown(shard.name): shard for shard in shards}
        self._indexes: OrderedDict[str, _Index] = OrderedDict()
        self._lock = threading.Lock()

    def shard_of(self, sample_id: str) -> Shard:
        """The shard that a sample lies in, by its id.

        Raises:
            NoSuchSampleError: there is none.
        """
        found = self._folder_shard(sample_id) if self._of_images else self._file_shard(sample_id)
        if found is None:
            raise NoSuchSampleError(sample_id)
        return found

    def read(self, sample_id: str) -> Sample:
        """A sample with its encoded image, or with the reason why it has none.

        Raises:
            NoSuchSampleError: there is none of this id.
            UserError: a file is not what was listed, or the storage fails.
        """
        shard = self.shard_of(sample_id)
        for sample in self._near(shard, sample_id):
            if sample.sample_id == sample_id:
                return sample
        raise NoSuchSampleError(sample_id)

    def read_many(self, sample_ids: Iterable[str]) -> Iterator[Sample]:
        """Those of some samples that there are, shard by shard, each of which is read once."""
        wanted: dict[str, set[str]] = defaultdict(set)
        shards: dict[str, Shard] = {}
        for sample_id in sample_ids:
            try:
                shard = self.shard_of(sample_id)
            except NoSuchSampleError:
                continue
            shards[shard.key] = shard
            wanted[shard.key].add(sample_id)
        for key, ids in wanted.items():
            if len(ids) == 1:
                yield from (s for s in self._near(shards[key], *ids) if s.sample_id in ids)
                continue
            left = set(ids)
            for sample in read_samples(shards[key]):
                if sample.sample_id in left:
                    yield sample
                    left.discard(sample.sample_id)
                    if not left:
                        break

    def _folder_shard(self, sample_id: str) -> Shard | None:
        at = bisect_right(self._firsts, sample_id) - 1
        # an id with an escape stands at its raw name's place, wherever that is
        candidates = self.shards if "\\" in sample_id else self.shards[max(at, 0) : at + 1]
        return next((shard for shard in candidates if _place(shard, sample_id) is not None), None)

    def _file_shard(self, sample_id: str) -> Shard | None:
        name = sample_id
        while "/" in name:  # a shard's name has slashes, and so has a key
            name = name.rpartition("/")[0]
            if name in self._named:
                return self._named[name]
        return None

    def _near(self, shard: Shard, sample_id: str) -> Iterator[Sample]:
        """A shard's samples from one on that is not far before the one that is meant."""
        kind = FORMATS[shard.format]
        if self._of_images:
            place = _place(shard, sample_id)
            return read_samples(shard, lambda ordinal: ordinal == place)
        if kind.numbered:
            number = sample_id.rpartition("/")[2]
            place = int(number) if number.isascii() and number.isdigit() else -1
            starts = kind.partly.starts(shard) if kind.partly and kind.partly.starts else ()
            start = next((s for s in reversed(starts) if s.samples <= place), None)
            return read_samples(shard, lambda ordinal: ordinal == place, start)
        return read_samples(shard, start=self._index(shard).find(sample_id))

    def _index(self, shard: Shard) -> _Index:
        with self._lock:
            index = self._indexes.pop(shard.key, None) or _Index(shard)
            self._indexes[shard.key] = index
            if len(self._indexes) > INDEXED_SHARDS:
                self._indexes.popitem(last=False)
            return index


class _Index:
    """Where the samples of a tar begin, as far as it was looked through."""

    def __init__(self, shard: Shard):
        self.shard = shard
        self.starts: dict[str, Start | None] = {}
        self._last: Start | None = None
        self._lock = threading.Lock()

    def find(self, sample_id: str) -> Start | None:
        """Where a sample begins; None where that is not known.

        Raises:
            NoSuchSampleError: the shard has none of this id.
        """
        with self._lock:
            if sample_id not in self.starts:
                self._look_for(sample_id)
        if sample_id not in self.starts:
            raise NoSuchSampleError(sample_id)
        return self.starts[sample_id]

    def _look_for(self, sample_id: str) -> None:
        partly = FORMATS[self.shard.format].partly
        assert partly is not None, "tars can be read in parts"
        if self._last is None or is_local(filesystem(self.shard.address)[0]):
            found = partly.scan(self.shard)  # leaps over images where it can
        else:
            found = partly.read(self.shard, lambda ordinal: False, self._last)
        for sample in found:
            self.starts[sample.sample_id] = sample.start
            self._last = sample.start or self._last
            if sample.sample_id == sample_id:
                return


def _place(shard: Shard, sample_id: str) -> int | None:
    """The ordinal of an image in a shard of a folder."""
    return next((i for i, image in enumerate(shard.images) if shown(image[0]) == sample_id), None)
