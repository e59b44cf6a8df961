"""Connections: linear maps with trainable weights."""

from orbit_snn.connections.base import Connection as Connection
from orbit_snn.connections.dense import Dense as Dense
from orbit_snn.connections.distance import DistanceConnection as DistanceConnection
from orbit_snn.connections.sparse import Sparse as Sparse
