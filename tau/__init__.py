"""TAU, the method: imports torch only and can be vendored alone."""

from tau.model import TAU
from tau.predictor import Clip, Predictor, rollout

__all__ = ["TAU", "Clip", "Predictor", "rollout"]
