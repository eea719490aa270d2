#!/usr/bin/env bash
# Installs the Slurm that `pytest -m slow tests/cluster` starts for itself (Debian, as root; 3.5 MB).
set -euo pipefail
apt-get update -qq
apt-get install -y --no-install-recommends slurm-wlm munge
