"""Training: trainer, evaluator and the run that puts them under an Orbit controller."""

from orbit_snn.training.actions import Action as Action
from orbit_snn.training.actions import StopTraining as StopTraining
from orbit_snn.training.errors import DiskFullError as DiskFullError
from orbit_snn.training.errors import DivergedError as DivergedError
from orbit_snn.training.errors import RunDirectoryError as RunDirectoryError
from orbit_snn.training.errors import TrainingError as TrainingError
from orbit_snn.training.evaluator import Evaluator as Evaluator
from orbit_snn.training.options import TrainingOptions as TrainingOptions
from orbit_snn.training.plateaus import LowerLearningRateOnPlateau as LowerLearningRateOnPlateau
from orbit_snn.training.plateaus import RaiseBatchSizeOnPlateau as RaiseBatchSizeOnPlateau
from orbit_snn.training.plot_maker import Compare as Compare
from orbit_snn.training.plot_maker import Confusion as Confusion
from orbit_snn.training.plot_maker import Errors as Errors
from orbit_snn.training.plot_maker import PlotMaker as PlotMaker
from orbit_snn.training.plot_maker import Plotter as Plotter
from orbit_snn.training.plot_maker import Raster as Raster
from orbit_snn.training.plot_maker import Traces as Traces
from orbit_snn.training.plot_maker import Weights as Weights
from orbit_snn.training.runner import Run as Run
from orbit_snn.training.stopping import Patience as Patience
from orbit_snn.training.stopping import StopAfter as StopAfter
from orbit_snn.training.stopping import StopOnThreshold as StopOnThreshold
from orbit_snn.training.task import Task as Task
from orbit_snn.training.trainer import Trainer as Trainer
