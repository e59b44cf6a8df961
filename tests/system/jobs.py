"""What a test runs in a process of its own, because TensorFlow's devices are fixed once."""


def prepare_digits(data_dir: str) -> bool:
    from orbit_snn.tasks import digits_dataset

    digits_dataset.builder(data_dir)
    return True
