"""What is read of a sample at most, whatever its format."""

from __future__ import annotations

# Larger members are rejected unread: data are not trusted to be what a header says of them.
MAX_MEMBER_BYTES = 256 << 20

MAX_LABEL_BYTES = 1024

MAX_JSON_BYTES = 1 << 20  # of a member that may hold a label; larger ones are not looked into
