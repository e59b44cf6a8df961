"""Packaging: `tasks`, `configs` and `tools` are installed below `orbit_snn`."""

import pathlib

from setuptools import find_packages, setup

LIBRARY = find_packages(include=["orbit_snn", "orbit_snn.*"])
BESIDE = ["tasks", "tools", "tools.peer_models"]
CONFIGS = [f"configs.{path.name}" for path in pathlib.Path("configs").iterdir() if path.is_dir()]

setup(
    name="orbit_snn",
    version="0.1.0",
    description="One trainer for spiking and recurrent networks under any learning rule",
    long_description=pathlib.Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    packages=[*LIBRARY, *(f"orbit_snn.{name}" for name in (*BESIDE, "configs", *CONFIGS))],
    package_dir={
        "orbit_snn": "orbit_snn",
        **{f"orbit_snn.{name}": name.replace(".", "/") for name in (*BESIDE, "configs", *CONFIGS)},
    },
    package_data={"": ["*.yaml", "py.typed"]},
    install_requires=[
        "absl-py",
        "importlib_resources",
        "matplotlib",
        "numpy",
        "pyyaml",
        "scikit-learn",
        "scipy",
        "tensorboard~=2.20.0",
        "tensorflow~=2.20.0",
        "tensorflow-datasets",
        "tf-models-official~=2.20.0",
        "tf_keras~=2.20.0",
    ],
    extras_require={
        "gpu": ["tensorflow[and-cuda]~=2.20.0"],
        "test": ["hypothesis", "mypy", "pytest", "pytest-xdist", "ruff"],
        "bench": ["jax", "norse~=1.1", "snntorch~=1.0", "spikingjelly~=2.0", "spyx~=1.0", "torch"],
    },
    entry_points={"console_scripts": ["orbit-snn-train=orbit_snn.train:run"]},
)
