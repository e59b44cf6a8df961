"""Strategies of a config: hardware that is not there, and what a TPU cannot do."""

import urllib.error

import pytest
import tensorflow as tf

from orbit_snn.configuration import ConfigError
from orbit_snn.runtime import RuntimeConfig, build_strategy


def refusal(**settings):
    with pytest.raises(ConfigError) as raised:
        build_strategy(RuntimeConfig(distribution_strategy="tpu", **settings))
    message = str(raised.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("address", ["", "local"])
def test_no_tpu_in_this_machine(address):
    message = refusal(tpu=address)
    assert message.startswith("no TPU answers at 'local' (") and "--tpu=local" in message
    assert float(tf.constant(1.0) + 1.0) == 2.0


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("Name or service not known"),  # of Google's metadata server
        ImportError("googleapiclient\nmust be installed"),
        ValueError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_tpu_of_that_name(monkeypatch, error):
    def resolver(tpu):
        assert tpu == "mine"
        raise error

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", resolver)
    message = refusal(tpu="mine")
    assert message.startswith("no TPU answers at 'mine' (") and "()" not in message


def test_double_precision_on_a_tpu():
    assert refusal(tpu="local", dtype="float64").startswith("runtime.dtype is float64, and a TPU")
