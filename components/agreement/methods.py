"""The methods by their one name: which protection, and which algorithm, each of them is."""

from __future__ import annotations

from typing import Final

from components.agreement.charter import GRADIENT_SUMS, LOCAL_PRIVACY
from components.agreement.protections import HE, MASKED, NONE, SEALED, SMC

FEDERATED_AVERAGING: Final = "fedavg"
OURS: Final = "ours"
DP_FL: Final = "dp-fl"

METHODS: Final = {
    OURS: (SEALED, GRADIENT_SUMS),
    "sealed": (SEALED, FEDERATED_AVERAGING),
    "fedavg": (NONE, FEDERATED_AVERAGING),
    "he-fl": (HE, FEDERATED_AVERAGING),
    "smc-fl": (SMC, FEDERATED_AVERAGING),
    "masked": (MASKED, FEDERATED_AVERAGING),
    DP_FL: (NONE, LOCAL_PRIVACY),
}
"""Protection and algorithm by name of the method."""
COMPARED: Final = ("fedavg", DP_FL, "smc-fl", "he-fl", OURS)
"""The paper's method and its four rivals, in the paper's order."""
