"""A draft of a job file, made of a data path and checkpoints: what could be found out, and doubts.

`layout` finds what lies at a path, `experts` what checkpoints are, `classes` which class list fits;
`samples` looks at the first images as a job would take them, `sheet` shows them, and `text` writes
it all down. Each asks what a job asks (`data`, `models`, `job`), so that a draft and its job agree.
"""

from dawin_ray.drafts.draft import Asked, Draft, draft_job

__all__ = ["Asked", "Draft", "draft_job"]
