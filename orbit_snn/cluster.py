"""The cluster that `TF_CONFIG` describes: checked before TensorFlow waits for it for an hour."""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from orbit_snn.configuration import ConfigError

VARIABLE = "TF_CONFIG"
_EXPECTED = (
    'expected the same on every machine but for its own index: {"cluster": {"worker": '
    '["host0:12345", "host1:12345"]}, "task": {"type": "worker", "index": 0}}'
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers of a run, and which of them this process is.

    Attributes:
      workers: addresses `host:port`, the chief's first.
      index: of this process among them.
    """

    workers: tuple[str, ...]
    index: int


def read_cluster(environment: Mapping[str, str] = os.environ) -> Cluster:
    """The cluster of the environment variable `TF_CONFIG`.

    Raises:
      ConfigError: where it is missing or malformed.
    """
    config = _json(environment.get(VARIABLE, ""))
    cluster, task = (_mapping(config, name) for name in ("cluster", "task"))
    jobs = {job: list(_addresses(cluster, job)) for job in ("chief", "worker") if job in cluster}
    if others := cluster.keys() - jobs.keys():
        raise _wrong(f"its cluster has the job {min(others)!r}, which mirrored training has not")
    if not jobs.get("worker"):
        raise _wrong('its cluster has no list "worker"')
    if len(jobs.get("chief", [""])) != 1:
        raise _wrong(f"its cluster has {len(jobs['chief'])} chiefs; expected one")
    workers = [address for job in jobs.values() for address in job]
    if twice := [address for address in workers if workers.count(address) > 1]:
        raise _wrong(f"its cluster has the address {twice[0]!r} twice")
    kind, index = task.get("type"), task.get("index")
    if kind not in jobs:
        raise _wrong(f"its task.type is {kind!r}; expected {' or '.join(jobs)}")
    if isinstance(index, bool) or not str(index).isdecimal():
        raise _wrong(f"its task.index is {index!r}; expected a number")
    if int(str(index)) >= len(jobs[kind]):
        least = f"0 to {len(jobs[kind]) - 1}, for {len(jobs[kind])} addresses"
        raise _wrong(f"its task.index is {index}; expected {least} in cluster.{kind}")
    return Cluster(tuple(workers), workers.index(jobs[kind][int(str(index))]))


def _wrong(reason: str) -> ConfigError:
    return ConfigError(
        "runtime.distribution_strategy is multi_worker_mirrored, and the environment variable "
        f"{VARIABLE}: {reason}; {_EXPECTED}."
    )


def _json(text: str) -> Any:
    if not text.strip():
        raise _wrong("it is not set")
    try:
        return json.loads(text)
    except ValueError as error:
        raise _wrong(f"it is not JSON ({error})") from error


def _mapping(config: Any, name: str) -> dict[str, Any]:
    value = config.get(name) if isinstance(config, dict) else None
    if not isinstance(value, dict):
        raise _wrong(f'it has no mapping "{name}"')
    return value


def _addresses(cluster: Mapping[str, Any], job: str) -> Iterator[str]:
    found = cluster[job]
    if not isinstance(found, list):
        raise _wrong(f"its cluster.{job} is {found!r}; expected a list of addresses")
    for address in found:
        host, _, port = str(address).rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 65536):
            raise _wrong(f"its cluster.{job} has {address!r}; expected host:port")
        yield address
