"""Tests. Packages are installed uncompiled, for speed: all processes share what one compiles."""

import os
import sys

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
