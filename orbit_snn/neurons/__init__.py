"""Neuron models: one `step` each, from which every learning rule derives what it needs."""

from orbit_snn.neurons.adaptive import ALIF as ALIF
from orbit_snn.neurons.adaptive import ALIFState as ALIFState
from orbit_snn.neurons.base import Neuron as Neuron
from orbit_snn.neurons.base import Parameter as Parameter
from orbit_snn.neurons.filtered import Filtered as Filtered
from orbit_snn.neurons.filtered import FilteredState as FilteredState
from orbit_snn.neurons.izhikevich import Izhikevich as Izhikevich
from orbit_snn.neurons.izhikevich import IzhikevichState as IzhikevichState
from orbit_snn.neurons.leaky_integrator import LeakyIntegrator as LeakyIntegrator
from orbit_snn.neurons.leaky_integrator import LeakyState as LeakyState
from orbit_snn.neurons.leaky_integrator import LeakyTanh as LeakyTanh
from orbit_snn.neurons.lif import LIF as LIF
from orbit_snn.neurons.lif import LIFState as LIFState
from orbit_snn.neurons.mixed import Mixed as Mixed
from orbit_snn.neurons.mixed import parts as parts
from orbit_snn.neurons.reset import Reset as Reset
from orbit_snn.neurons.theta import Theta as Theta
from orbit_snn.neurons.theta import ThetaState as ThetaState
from orbit_snn.neurons.voltage_lif import VoltageLIF as VoltageLIF
from orbit_snn.neurons.voltage_lif import VoltageLIFState as VoltageLIFState
