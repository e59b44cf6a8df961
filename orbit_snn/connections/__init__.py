"""Connections: linear maps with trainable weights."""

from orbit_snn.connections.base import Connection as Connection
from orbit_snn.connections.conv2d import Conv2D as Conv2D
from orbit_snn.connections.delayed import Delayed as Delayed
from orbit_snn.connections.delayed import DelayLine as DelayLine
from orbit_snn.connections.dense import Dense as Dense
from orbit_snn.connections.distance import DistanceConnection as DistanceConnection
from orbit_snn.connections.lateral import Lateral as Lateral
from orbit_snn.connections.one_to_one import OneToOne as OneToOne
from orbit_snn.connections.sparse import Sparse as Sparse
