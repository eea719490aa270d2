"""Tests of `dawin_ray.bench`."""
