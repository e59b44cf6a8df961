"""The batch size of a run, which may change on the way, and where in its data a step is."""

import tensorflow as tf


class BatchSize(tf.Module):
    """Batch size and position in the data; in the checkpoint, so that a run goes on exactly.

    Args:
      size: examples of all replicas together, as configured.
    """

    def __init__(self, size: int):
        super().__init__(name="batch_size")
        self._configured = size
        with self.name_scope:
            # Configured size, size now, and the step and position at which that began.
            self._state = tf.Variable([size, size, 0, 0], dtype=tf.int64, trainable=False)

    @property
    def size(self) -> int:
        """Examples of a batch."""
        return int(self._state.numpy()[1])

    def position(self, step: int) -> int:
        """Examples that training has seen before a step.

        Where a run is continued with another configured size, that is in force from this step on.
        """
        configured, size, begin, position = map(int, self._state.numpy())
        seen = position + (step - begin) * size
        if configured != self._configured:
            self._state.assign([self._configured, self._configured, step, seen])
        return seen

    def change(self, size: int, step: int) -> None:
        """Sets the size from a step on."""
        self._state.assign([self._configured, size, step, self.position(step)])
