"""Local plasticity: rules that see a synapse's two sides only."""

from orbit_snn.learning.plasticity.classifier import MaxRateClassifier as MaxRateClassifier
from orbit_snn.learning.plasticity.classifier import Taught as Taught
from orbit_snn.learning.plasticity.homeostasis import LinearHomeostasis as LinearHomeostasis
from orbit_snn.learning.plasticity.kernels import ExponentialKernel as ExponentialKernel
from orbit_snn.learning.plasticity.kernels import KernelSTDP as KernelSTDP
from orbit_snn.learning.plasticity.kernels import delay_adjusted_stdp as delay_adjusted_stdp
from orbit_snn.learning.plasticity.kernels import delay_adjusted_stdpd as delay_adjusted_stdpd
from orbit_snn.learning.plasticity.limits import Limits as Limits
from orbit_snn.learning.plasticity.modulated import MSTDP as MSTDP
from orbit_snn.learning.plasticity.modulated import MSTDPET as MSTDPET
from orbit_snn.learning.plasticity.rule import Plasticity as Plasticity
from orbit_snn.learning.plasticity.stdp import STDP as STDP
from orbit_snn.learning.plasticity.stdp import TripletSTDP as TripletSTDP
from orbit_snn.learning.plasticity.synaptic import Product as Product
from orbit_snn.learning.plasticity.synaptic import Seen as Seen
from orbit_snn.learning.plasticity.synaptic import SeparableRule as SeparableRule
from orbit_snn.learning.plasticity.synaptic import SynapsewiseRule as SynapsewiseRule
from orbit_snn.learning.plasticity.trainers import CellTrainer as CellTrainer
from orbit_snn.learning.plasticity.trainers import IndependentCellTrainer as IndependentCellTrainer
from orbit_snn.learning.plasticity.units import Unit as Unit
