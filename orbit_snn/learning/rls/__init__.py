"""Recursive least squares: one kernel, and strategies that make rows for it."""

from orbit_snn.learning.rls.kernel import Kernel as Kernel
from orbit_snn.learning.rls.rule import RLS as RLS
