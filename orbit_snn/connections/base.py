"""The contract of a connection: a linear map with trainable weights."""

import abc
from collections.abc import Mapping, Sequence

import tensorflow as tf

from orbit_snn.updaters import Updatable, Updater, clamp


class Connection(Updatable, tf.Module, metaclass=abc.ABCMeta):
    """Linear map from F inputs to N currents; the only way in which neurons touch each other.

    Every function takes leading dimensions of any number, so that a whole sequence `[T, B, F]` is
    one product. A loop that applies the map many times calls `weights()`, or `transposed()` for
    the reverse direction, once before it and hands the result over.

    Attributes:
      inputs: F.
      units: N.
      shares_weights: whether a weight is at several synapses, as in a convolution; a rule that
        solves for each synapse cannot train such a connection.
    """

    inputs: int
    units: int
    shares_weights: bool = False

    @abc.abstractmethod
    def weights(self) -> tuple[tf.Tensor, ...]:
        """The weights in effect (masks and constraints applied), as the functions below take it."""

    @abc.abstractmethod
    def transposed(self) -> tuple[tf.Tensor, ...]:
        """The weights as `transpose` takes them, laid out so that a product with them is fast."""

    @abc.abstractmethod
    def __call__(self, x: tf.Tensor, weights: tuple[tf.Tensor, ...] | None = None) -> tf.Tensor:
        """Currents `[..., N]` of inputs `[..., F]`."""

    @abc.abstractmethod
    def transpose(
        self, dcurrent: tf.Tensor, transposed: tuple[tf.Tensor, ...] | None = None
    ) -> tf.Tensor:
        """Gradient to the inputs, `[..., F]`, of a gradient to the currents, `[..., N]`."""

    @abc.abstractmethod
    def weight_gradient(self, x: tf.Tensor, dcurrent: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Gradients to `parameters`, summed over all leading dimensions.

        Args:
          x: what the connection received, `[..., F]`.
          dcurrent: gradient to the currents that came of it, `[..., N]`.
        """

    @abc.abstractmethod
    def presynaptic(self, x: tf.Tensor) -> tf.Tensor:
        """What every synapse of a neuron sees, `[..., P]`: the F inputs, 1 for a bias, and so on.

        With `x` `[..., F]`, the gradients to the parameters are `synapses` of the product of this
        and the gradient to the currents; an eligibility trace has one entry for each of the P x N.
        """

    @abc.abstractmethod
    def synapses(self, products: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Gradients to `parameters` of the products `[P, N]` of `presynaptic` and dE/dI.

        Summed over all places of a weight that is at several.
        """

    @abc.abstractmethod
    def by_synapse(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
        """One value for each of `parameters`, weights or gradients, as `[P, N]`.

        At every place of a weight, 0 where there is no synapse: the transpose of `synapses`, and
        its inverse but where weights are shared.
        """

    def own_rows(self) -> tf.Tensor | None:
        """Which of the P of `presynaptic` each neuron has synapses on: integers `[M, N]`.

        None where every neuron has them on all P, but for itself: what a learning rule makes of
        the P is then one for all neurons, and otherwise one for each neuron on its own M.
        """
        return None

    @property
    @abc.abstractmethod
    def parameters(self) -> tuple[tf.Variable, ...]:
        """Trainable variables, in the order of `weight_gradient`."""

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The attributes that `parameters` are."""
        names = {id(value): name for name, value in vars(self).items()}
        return tuple(names[id(parameter)] for parameter in self.parameters)

    @property
    def beside(self) -> Mapping[str, str]:
        """Variables that only local rules change, and the parameter whose synapses they are of."""
        return {}

    @property
    def plastic(self) -> tuple[str, ...]:
        """Names of the variables that local rules may change."""
        return (*self.parameter_names, *self.beside)

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """Least and greatest value of what local rules may change, where there are such."""
        return {}

    def defaultupdater(self, reduction: str | None = None) -> Updater:
        """Makes the updater of all that local rules may change, by the names of the attributes."""
        updater = Updater(self, *self.plastic, reduction=reduction)
        for name, (low, high) in self.ranges.items():
            updater.add_post_update(name, clamp(low, high))
        self.updater = updater
        return updater
