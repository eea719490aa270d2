"""Tests of `dawin_ray.models`."""
