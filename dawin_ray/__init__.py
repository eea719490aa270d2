"""DaWin as a distributed batch-inference job: score image data sets with interpolated CLIP models.

Method: Oh et al., "DaWin: Training-free Dynamic Weight Interpolation for Robust Adaptation",
ICLR 2025, arXiv 2410.03782; reference code: github.com/naver-ai/dawin, commit 310e0e1.
"""

from __future__ import annotations

__version__ = "0.1.0"
