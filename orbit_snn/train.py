"""Trains and evaluates a registered experiment: flags to config to run."""

import gc
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags, logging  # noqa: E402

from orbit_snn.signals import INTERRUPTED, StopSignals  # noqa: E402

MODES = ("train", "eval", "train_and_eval", "continuous_eval")

_EXPERIMENT = flags.DEFINE_string("experiment", None, "Registered experiment, such as digits.")
_MODE = flags.DEFINE_enum(
    "mode",
    "train_and_eval",
    MODES,
    "train: train to trainer.train_steps, from the last checkpoint if there is one; eval: evaluate "
    "the last checkpoint on the held-out examples; train_and_eval: both; continuous_eval: evaluate "
    "every checkpoint that another process writes.",
)
_MODEL_DIR = flags.DEFINE_string("model_dir", None, "Where checkpoints, summaries and results go.")
_CONFIG_FILE = flags.DEFINE_multi_string(
    "config_file", [], "YAML file over the experiment's defaults; repeat it, the last one wins."
)
_OVERRIDE = flags.DEFINE_string(
    "params_override", "", "Applied last: `a.b=1,c=[2,3]`, YAML or JSON text, or a YAML file."
)
_TPU = flags.DEFINE_string("tpu", "", "Address of a TPU; `local` on a TPU VM.")
_TIMEOUT = flags.DEFINE_float(
    "eval_timeout", 3600.0, "continuous_eval: seconds to wait for a new checkpoint.", lower_bound=0
)


def import_tasks() -> None:
    """Imports every file in tasks/, each of which registers its experiments."""
    from orbit_snn import tasks

    for module in pkgutil.iter_modules(tasks.__path__):
        importlib.import_module(f"orbit_snn.tasks.{module.name}")


def main(argv: list[str]) -> None:
    """Runs the experiment that the flags name; on an error exits with its code and one line."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; every option starts with --")
    logging.set_verbosity(logging.WARNING)
    import_tasks()
    gc.freeze()  # what was imported stays: collecting it again costs seconds, most at the end
    launch(
        _EXPERIMENT.value,
        _MODEL_DIR.value,
        _MODE.value,
        _CONFIG_FILE.value,
        _OVERRIDE.value,
        _TPU.value,
        _TIMEOUT.value,
    )


def launch(
    experiment: str,
    model_dir: str | os.PathLike[str],
    mode: str = "train_and_eval",
    config_files: Sequence[str] = (),
    params_override: str = "",
    tpu: str = "",
    eval_timeout: float = 3600.0,
) -> None:
    """What the command line does, by the flags of the same names.

    Raises:
      SystemExit: for an error that the user can mend, with the line that says how.
    """
    from orbit_snn import experiments

    try:
        config = experiments.load(experiment, config_files, params_override, tpu)
        run = experiments.build_run(config, model_dir, create="train" in mode)
        if mode == "continuous_eval":
            run.evaluate_continuously(eval_timeout)
        elif mode == "train":
            run.train()
        else:
            run.evaluate() if mode == "eval" else run.train_and_evaluate()
    except (ValueError, RuntimeError) as error:
        if os.environ.get("ORBIT_SNN_TRACEBACK") or not experiments.is_message(error):
            raise
        line = f"orbit_snn: {' '.join(str(error).split())}"
        if (code := getattr(error, "exit_code", 1)) == 1:
            sys.exit(line)
        print(line, file=sys.stderr)
        sys.exit(code)


def run() -> None:
    """The console script."""
    flags.mark_flags_as_required(["experiment", "model_dir"])
    try:
        with StopSignals(0, print):
            app.run(main)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    run()
