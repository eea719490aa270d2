"""Tests of `dawin_ray.demo`."""
