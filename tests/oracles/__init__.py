"""NumPy float64 oracles for surrogate-gradient training, by forward-mode duals.

The equations are written once, from the specification, and never import `orbit_snn`. Spikes are
H(s) in value and psi(s) ds in tangent, so no reverse scan is involved. Sizes are meant to be tiny.
"""
