"""Training: trainer, evaluator and the run that puts them under an Orbit controller."""

from orbit_snn.training.actions import Action as Action
from orbit_snn.training.actions import StopTraining as StopTraining
from orbit_snn.training.checkpoints import RunDirectoryError as RunDirectoryError
from orbit_snn.training.evaluator import Evaluator as Evaluator
from orbit_snn.training.options import TrainingOptions as TrainingOptions
from orbit_snn.training.plateaus import LowerLearningRateOnPlateau as LowerLearningRateOnPlateau
from orbit_snn.training.plateaus import RaiseBatchSizeOnPlateau as RaiseBatchSizeOnPlateau
from orbit_snn.training.runner import Run as Run
from orbit_snn.training.stopping import Patience as Patience
from orbit_snn.training.stopping import StopAfter as StopAfter
from orbit_snn.training.stopping import StopOnThreshold as StopOnThreshold
from orbit_snn.training.task import Task as Task
from orbit_snn.training.trainer import Trainer as Trainer
from orbit_snn.training.trainer import TrainingError as TrainingError
