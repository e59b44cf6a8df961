"""Learning rules: one file each, none of which knows a neuron model by name."""

from orbit_snn.learning.base import LearningRule as LearningRule
from orbit_snn.learning.base import Update as Update
from orbit_snn.learning.base import Window as Window
from orbit_snn.learning.bptt import BPTT as BPTT
from orbit_snn.learning.eprop import Eprop as Eprop
from orbit_snn.learning.feedback import Feedback as Feedback
from orbit_snn.learning.plasticity import Plasticity as Plasticity
from orbit_snn.learning.rls import RLS as RLS
from orbit_snn.learning.rls import Kernel as Kernel
from orbit_snn.learning.tbptt import TBPTT as TBPTT
