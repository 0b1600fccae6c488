#!/usr/bin/env bash
# The images' Python environment in /opt/venv: what pyproject.toml names, at the pins of constraints.txt.
#   venv.sh cpu|gpu
# Wheels in /wheels, which docker/images.sh fetches with the host's own pip, serve instead of an index.
set -euo pipefail
target=$1
export PIP_CONSTRAINT=/build/constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
source=() index=()
if compgen -G '/wheels/*.whl' >/dev/null; then
    source=(--no-index --find-links /wheels)
elif [ -n "${TORCH_INDEX:-}" ]; then
    index=(--index-url "$TORCH_INDEX")
fi
python3.11 -m venv /opt/venv
# torch first and alone: its builds for CPUs and for CUDA lie on indexes of their own.
/opt/venv/bin/pip install "${source[@]}" "${index[@]}" "$(grep '^torch==' "$PIP_CONSTRAINT")"
cuda=$(/opt/venv/bin/python -c 'import torch; print(torch.version.cuda or "")')
if [ "$target" = cpu ] && [ -n "$cuda" ]; then
    echo "That is torch for CUDA $cuda, gigabytes that the CPU image has no use for." >&2
    echo "Give the index of torch's CPU builds, which PyTorch's own pages name: --build-arg TORCH_INDEX=ADDRESS" >&2
    exit 1
elif [ "$target" = gpu ] && [ -z "$cuda" ]; then
    echo "That is torch for CPUs, and the GPU image needs CUDA's." >&2
    echo "Give the index of torch's CUDA builds, which PyTorch's own pages name: --build-arg TORCH_INDEX=ADDRESS" >&2
    exit 1
fi
mapfile -t packages < <(python3.11 -c '
import tomllib
project = tomllib.load(open("/build/pyproject.toml", "rb"))
print(*project["build-system"]["requires"], *project["project"]["dependencies"], sep="\n")')
/opt/venv/bin/pip install "${source[@]}" "${packages[@]}"
# The packages' own tests, and what only compilers want of torch, are a fifth of it.
site=$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
find "$site" -type d -path "$site/*/tests" -prune -exec rm -rf {} +
rm -rf "$site/torch/test" "$site/torch/include"
find "$site/torch/bin" -type f ! -name torch_shm_manager -delete
