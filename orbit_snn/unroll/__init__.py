"""The time loops. No other package loops over the steps of a sequence."""

from orbit_snn.unroll.filters import filtered as filtered
from orbit_snn.unroll.forward import check_inputs as check_inputs
from orbit_snn.unroll.forward import check_interval as check_interval
from orbit_snn.unroll.forward import forward as forward
from orbit_snn.unroll.reverse import Reverse as Reverse
from orbit_snn.unroll.reverse import reverse as reverse
from orbit_snn.unroll.together import Parts as Parts
from orbit_snn.unroll.together import forward_together as forward_together
from orbit_snn.unroll.together import reverse_together as reverse_together
