#!/usr/bin/env sh
# Builds the wheel, installs it in a fresh environment that shares only third-party packages, and
# trains a few steps with the console script from another folder.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
python="$root/.venv/bin/python"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work/dist" "$root"
rm -rf "$root/build"
"$python" -m venv "$work/venv"
site=$("$python" -c 'import site; print(site.getsitepackages()[0])')
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "$work"/dist/*.whl
own=$("$work/venv/bin/python" -c 'import site; print(site.getsitepackages()[0])')
echo "$site" > "$own/third_party.pth"
cd "$work"
"$work/venv/bin/orbit-snn-train" --experiment=digits --mode=train_and_eval --model_dir="$work/run" \
  --params_override="task.data_dir=$work/data,trainer.train_steps=20,trainer.steps_per_loop=10,trainer.checkpoint_interval=10,trainer.validation_interval=10"
"$work/venv/bin/python" -c "
import json, pathlib, orbit_snn
assert str(pathlib.Path(orbit_snn.__file__)).startswith('$own'), orbit_snn.__file__
assert json.load(open('$work/run/results.json'))['step'] == 20
from importlib.resources import files
assert (files('orbit_snn.configs.digits') / 'bptt.yaml').is_file()
print('the wheel works')"
