"""Where a run runs: devices, strategy, precision."""

import dataclasses

import tensorflow as tf
from official.modeling.hyperparams import Config

from orbit_snn.cluster import read_cluster
from orbit_snn.configuration import ConfigError, choice, ranged

STRATEGIES = ("off", "one_device", "mirrored", "multi_worker_mirrored", "tpu")


@dataclasses.dataclass
class RuntimeConfig(Config):
    """Where a run runs.

    Attributes:
      distribution_strategy: `off`, `one_device`, `mirrored`, `multi_worker_mirrored`, with the
        cluster that the environment variable `TF_CONFIG` describes, or `tpu`.
      num_gpus: GPUs to use, of each worker; -1 for all that are there.
      logical_cpus: split the CPU into so many devices, to try several replicas without hardware.
      tpu: address of the TPU, `local` on a TPU VM.
      enable_xla: compile the steps.
      dtype: of weights and states.
    """

    distribution_strategy: str = choice("off", STRATEGIES)
    num_gpus: int = ranged(-1, low=-1)
    logical_cpus: int = ranged(0, low=0, high=64)
    tpu: str = ""
    enable_xla: bool = True
    dtype: str = choice("float32", ("float32", "float64"))


def build_strategy(config: RuntimeConfig) -> tf.distribute.Strategy:
    """The strategy of a config; call it before TensorFlow has run anything.

    With several workers it waits until all of them have called it.

    Raises:
      ConfigError: for hardware that is not there or does not go with the rest, or a cluster that is
        none.
    """
    kind = config.distribution_strategy
    if kind == "multi_worker_mirrored":
        return _multi_worker_strategy(config)
    if config.logical_cpus:
        cpu = tf.config.list_physical_devices("CPU")[0]
        devices = [tf.config.LogicalDeviceConfiguration()] * config.logical_cpus
        tf.config.set_logical_device_configuration(cpu, devices)
    if kind == "off":
        return tf.distribute.get_strategy()
    if kind == "tpu":
        if config.dtype != "float32":
            raise ConfigError(
                f"runtime.dtype is {config.dtype}, and a TPU computes in single precision; use "
                "float32."
            )
        return _tpu_strategy(config.tpu)
    gpus = [f"GPU:{i}" for i in range(len(_gpus(config.num_gpus)))]
    devices = gpus or [f"CPU:{i}" for i in range(max(1, config.logical_cpus))]
    if kind == "one_device":
        return tf.distribute.OneDeviceStrategy(devices[0])
    return tf.distribute.MirroredStrategy(devices)


def _gpus(count: int) -> list[tf.config.PhysicalDevice]:
    """The first GPUs of this machine, -1 for all."""
    gpus = tf.config.list_physical_devices("GPU")
    if count > len(gpus):
        raise ConfigError(
            f"runtime.num_gpus is {count}, this machine has {len(gpus)}; ask for fewer."
        )
    return gpus if count < 0 else gpus[:count]


def _multi_worker_strategy(config: RuntimeConfig) -> tf.distribute.Strategy:
    """One replica for each GPU of each worker; without GPUs, one for each worker."""
    cluster = read_cluster()
    if config.logical_cpus > 1:
        raise ConfigError(
            f"runtime.logical_cpus is {config.logical_cpus}; a worker of multi_worker_mirrored has "
            "one CPU replica: leave it 0 and start more workers."
        )
    gpus = _gpus(config.num_gpus)
    kinds = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=kinds.AUTO if gpus else kinds.RING
    )
    try:
        tf.config.set_visible_devices(gpus, "GPU")
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    except (tf.errors.OpError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"worker {cluster.index} of {len(cluster.workers)}, {cluster.workers[cluster.index]}, "
            f"cannot join the others ({reason}); start one process for each address of TF_CONFIG, "
            "none of them twice."
        ) from error


def _tpu_strategy(address: str) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=address or "local")
        if address not in ("", "local"):
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except Exception as error:  # to look for one, TensorFlow asks other services, which fail too
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise ConfigError(
            f"no TPU answers at {address or 'local'!r} ({reason}); run on a TPU VM with "
            "--tpu=local, or give its name or address."
        ) from error
    return tf.distribute.TPUStrategy(resolver)
