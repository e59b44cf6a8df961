"""Neuron models: one `step` each, from which every learning rule derives what it needs."""

from orbit_snn.neurons.adaptive import ALIF as ALIF
from orbit_snn.neurons.adaptive import ALIFState as ALIFState
from orbit_snn.neurons.adaptive_voltage_lif import AdaptiveVoltageLIF as AdaptiveVoltageLIF
from orbit_snn.neurons.adaptive_voltage_lif import (
    AdaptiveVoltageLIFState as AdaptiveVoltageLIFState,
)
from orbit_snn.neurons.adex import AdEx as AdEx
from orbit_snn.neurons.adex import AdExState as AdExState
from orbit_snn.neurons.base import Neuron as Neuron
from orbit_snn.neurons.base import Parameter as Parameter
from orbit_snn.neurons.current_based import CurrentBased as CurrentBased
from orbit_snn.neurons.current_based import CurrentBasedState as CurrentBasedState
from orbit_snn.neurons.eif import EIF as EIF
from orbit_snn.neurons.eif import EIFState as EIFState
from orbit_snn.neurons.filtered import Filtered as Filtered
from orbit_snn.neurons.filtered import FilteredState as FilteredState
from orbit_snn.neurons.glif2 import GLIF2 as GLIF2
from orbit_snn.neurons.glif2 import GLIF2State as GLIF2State
from orbit_snn.neurons.izhikevich import Izhikevich as Izhikevich
from orbit_snn.neurons.izhikevich import IzhikevichState as IzhikevichState
from orbit_snn.neurons.leaky_integrator import LeakyIntegrator as LeakyIntegrator
from orbit_snn.neurons.leaky_integrator import LeakyState as LeakyState
from orbit_snn.neurons.leaky_integrator import LeakyTanh as LeakyTanh
from orbit_snn.neurons.lif import LIF as LIF
from orbit_snn.neurons.lif import LIFState as LIFState
from orbit_snn.neurons.mixed import Mixed as Mixed
from orbit_snn.neurons.mixed import parts as parts
from orbit_snn.neurons.qif import QIF as QIF
from orbit_snn.neurons.qif import QIFState as QIFState
from orbit_snn.neurons.reset import Reset as Reset
from orbit_snn.neurons.synapses import Delta as Delta
from orbit_snn.neurons.synapses import DoubleExponential as DoubleExponential
from orbit_snn.neurons.synapses import SingleExponential as SingleExponential
from orbit_snn.neurons.synapses import Synapse as Synapse
from orbit_snn.neurons.theta import Theta as Theta
from orbit_snn.neurons.theta import ThetaState as ThetaState
from orbit_snn.neurons.voltage_lif import VoltageLIF as VoltageLIF
from orbit_snn.neurons.voltage_lif import VoltageLIFState as VoltageLIFState
