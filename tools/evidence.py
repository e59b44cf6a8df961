"""Long runs whose numbers the README shows: `make evidence`.

Every study trains a published configuration with several seeds and writes
`tools/results/<study>.json`: the command that made it, the versions, one row a seed and their mean.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

RESULTS = pathlib.Path(__file__).resolve().parent / "results"
CONFIGS = pathlib.Path(__file__).resolve().parent.parent / "configs"


def joined(*overrides: str) -> str:
    """Overrides as one."""
    return ",".join(filter(None, overrides))


def load(experiment: str, rule: str, override: str, seed: int) -> Any:
    """The config `configs/<experiment>/<rule>.yaml` with an override and a seed."""
    from orbit_snn import experiments
    from orbit_snn.train import import_tasks

    import_tasks()
    file = str(CONFIGS / experiment / f"{rule}.yaml")
    return experiments.load(experiment, [file], joined(override, f"seed={seed}"))


def run_config(experiment: str, rule: str, override: str, seed: int) -> dict[str, Any]:
    """Trains and evaluates a config and returns its results."""
    from orbit_snn import experiments

    config = load(experiment, rule, override, seed)
    with tempfile.TemporaryDirectory() as directory:
        return experiments.build_run(config, directory).train_and_evaluate()


def gru_digits(override: str, seed: int) -> dict[str, Any]:
    """A tf_keras GRU of the same number of units on the same data, batches and schedule."""
    import tensorflow as tf
    import tf_keras

    from orbit_snn import data, experiments

    config = load("digits", "bptt", override, seed)
    task = config.task.build(seed, tf.float32)
    tf_keras.utils.set_random_seed(seed)
    sequences = config.task.decision != "last"
    units = config.task.model.units[-1]
    (network,) = (node.module for node in task.training_modules.model.networks)
    (classes,) = (readout.neuron.units for readout in network.readouts.values())
    layers = [tf_keras.layers.GRU(units, return_sequences=sequences)]
    layers += [tf_keras.layers.GlobalAveragePooling1D()] if sequences else []
    model = tf_keras.Sequential([*layers, tf_keras.layers.Dense(classes)])
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = experiments.build_optimizer(config, task, experiments.build_rule(config))
    model.compile(optimizer, loss, metrics=["accuracy"])
    size, steps = config.trainer.batch_size, config.trainer.train_steps
    pairs = lambda batch: (batch["inputs"], batch["label"])  # noqa: E731
    splits = {name: task.database.split(name) for name in ("train", "test")}
    train = data.training_dataset(splits["train"], size, seed).map(pairs)
    model.fit(train, steps_per_epoch=steps, epochs=1, verbose=0)
    test = data.evaluation_dataset(splits["test"], size, seed)
    test = test.map(lambda batch: (*pairs(batch), batch["weight"]))
    model.compile(optimizer, loss, weighted_metrics=["accuracy"])
    _, accuracy = model.evaluate(test, verbose=0)
    return {"seed": seed, "step": steps, "metrics": {"accuracy": accuracy}}


def iterations(experiment: str, rule: str, override: str, seed: int) -> dict[str, Any]:
    """Trains until the run stops by itself; the number of iterations is the result."""
    found = run_config(experiment, rule, override, seed)
    return {**found, "metrics": {"iterations": found["step"], **found["metrics"]}}


def loss_fractions(override: str, seed: int) -> dict[str, Any]:
    """Iterations until the error of pattern generation is below a part of what it was at first."""
    import tensorflow as tf

    from orbit_snn import experiments

    every = "trainer.steps_per_loop=1"
    config = load("pattern_generation", "eprop", joined(override, every), seed)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as directory:
        run = experiments.build_run(config, directory)
        first = None
        for step in range(config.trainer.train_steps):
            error = run.trainer.train(tf.constant(1))["loss/squared_error"]
            first = error if first is None else first
            for part in (2, 4, 10):
                if error < first / part:
                    found.setdefault(f"to_1/{part}", step)
            if "to_1/10" in found:
                break
    return {"seed": seed, "step": step, "metrics": found}


def train_once(experiment: str, rule: str, override: str, seed: int) -> dict[str, Any]:
    """Trains on the one sequence of a task; what training itself measured is the result."""
    import tensorflow as tf

    from orbit_snn import experiments

    config = load(experiment, rule, override, seed)
    with tempfile.TemporaryDirectory() as directory:
        results = experiments.build_run(config, directory).trainer.train(tf.constant(1))
    metrics = {key: float(value) for key, value in results.items() if "rmse" in key}
    return {"seed": seed, "step": 1, "metrics": metrics}


def fitted(experiment: str, rule: str, override: str, seed: int) -> dict[str, Any]:
    """What passes over the one sequence of a task explain.

    The fifth and the last while they learn, and the network on its own after them.
    """
    import tensorflow as tf

    from orbit_snn import experiments
    from orbit_snn.training.evaluator import Evaluator

    config = load(experiment, rule, override, seed)
    passes = config.trainer.train_steps
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as directory:
        run = experiments.build_run(config, directory)
        evaluator = Evaluator(*run.task, "test", 1)
        for step in range(1, passes + 1):
            pvar = run.trainer.train(tf.constant(1))["pvar"]
            if step in (5, passes):
                alone = evaluator.evaluate(tf.constant(evaluator.batches))["pvar"]
                found |= {f"pvar_{step}": float(pvar), f"free_{step}": float(alone)}
    return {"seed": seed, "step": passes, "metrics": found}


def small_networks(study: str, seed: int) -> dict[str, Any]:
    """A study of `tools.small_networks`."""
    from orbit_snn.tools import small_networks

    return {"seed": seed, "step": 0, "metrics": getattr(small_networks, study)(seed)}


SYMMETRIC = "learning.eprop.feedback.kind=symmetric"
STUDIES: dict[str, tuple[str, Callable[[str, int], dict[str, Any]]]] = {
    "digits_bptt": ("accuracy", lambda o, s: run_config("digits", "bptt", o, s)),
    "digits_tbptt": ("accuracy", lambda o, s: run_config("digits", "tbptt", o, s)),
    "digits_gru": ("accuracy", gru_digits),
    "pattern_generation_bptt": (
        "nmse",
        lambda o, s: run_config("pattern_generation", "bptt", o, s),
    ),
    "digits_eprop": ("accuracy", lambda o, s: run_config("digits", "eprop", o, s)),
    "digits_eprop_symmetric": (
        "accuracy",
        lambda o, s: run_config("digits", "eprop_symmetric", o, s),
    ),
    "pattern_generation_eprop": ("to_1/4", loss_fractions),
    "pattern_generation_eprop_symmetric": (
        "to_1/4",
        lambda o, s: loss_fractions(joined(SYMMETRIC, o), s),
    ),
    "evidence_accumulation_eprop": (
        "iterations",
        lambda o, s: iterations("evidence_accumulation", "eprop", o, s),
    ),
    "evidence_accumulation_eprop_symmetric": (
        "iterations",
        lambda o, s: iterations("evidence_accumulation", "eprop", joined(SYMMETRIC, o), s),
    ),
    "force_sines": ("mae", lambda o, s: run_config("force_sines", "rls", o, s)),
    "flip_flop": ("sign_accuracy", lambda o, s: run_config("flip_flop", "rls", o, s)),
    "full_force_oscillation": (
        "error",
        lambda o, s: run_config("full_force_oscillation", "rls", o, s),
    ),
    "ready_set_go": ("error", lambda o, s: run_config("ready_set_go", "rls", o, s)),
    "spiking_force": ("rmse", lambda o, s: train_once("spiking_force", "lif", o, s)),
    "spiking_force_theta": ("rmse", lambda o, s: train_once("spiking_force", "theta", o, s)),
    "spiking_force_izhikevich": (
        "rmse",
        lambda o, s: train_once("spiking_force", "izhikevich", o, s),
    ),
    "lorenz": ("rmse", lambda o, s: train_once("lorenz", "theta", o, s)),
    "small_tanh_networks": ("grad", lambda o, s: small_networks("tanh_study", s)),
    "small_spiking_networks": ("grad", lambda o, s: small_networks("spiking_study", s)),
    "curbd_three_regions": ("pvar_5", lambda o, s: fitted("curbd_three_regions", "rls", o, s)),
    "curbd_published": ("pvar_5", lambda o, s: fitted("curbd_three_regions", "published", o, s)),
    "diehl_cook": ("accuracy", lambda o, s: run_config("diehl_cook", "stdp", o, s)),
    "reward_timing": ("in_window", lambda o, s: run_config("reward_timing", "mstdpet", o, s)),
    "evidence_accumulation_bptt": (
        "iterations",
        lambda o, s: iterations("evidence_accumulation", "bptt", o, s),
    ),
}


def study(name: str, seeds: Sequence[int], override: str) -> dict[str, Any]:
    """Runs a study with every seed and summarises its headline metric."""
    from orbit_snn.training.results import versions

    metric, run = STUDIES[name]
    rows = [run(override, seed) for seed in seeds]
    values = [row["metrics"][metric] for row in rows]
    override_flag = f" --params_override={override}" if override else ""
    seeds_flag = ",".join(map(str, seeds))
    return {
        "study": name,
        "command": f"python -m orbit_snn.tools.evidence --studies={name} --seeds={seeds_flag}"
        + override_flag,
        "metric": metric,
        "mean": statistics.mean(values),
        "median": statistics.median(values),
        "values": values,
        "rows": [{key: row[key] for key in ("seed", "step", "metrics")} for row in rows],
        "versions": versions(),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the studies that the flags name and writes one JSON file each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", default=",".join(STUDIES), help="names, comma-separated")
    parser.add_argument("--seeds", default="1,2,3", help="comma-separated")
    parser.add_argument("--params_override", default="", help="on top of the configuration")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS, help="where the JSON goes")
    flags = parser.parse_args(arguments)
    names = flags.studies.split(",")
    unknown = [name for name in names if name not in STUDIES]
    if unknown:
        sys.exit(f"evidence: no study {unknown[0]!r}; expected some of {', '.join(STUDIES)}.")
    for name in names:
        result = study(name, [int(seed) for seed in flags.seeds.split(",")], flags.params_override)
        flags.out.mkdir(parents=True, exist_ok=True)
        (flags.out / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
        print(f"{name}: {result['metric']} {result['mean']:.4f} of {result['values']}")


if __name__ == "__main__":
    main()
