"""The dynamic contrastive objective, one idea a file; cross-rank arithmetic in :mod:`gather`."""

from xalign_dist.objective.guard import CollapseGuard
from xalign_dist.objective.objective import DynamicObjective, LossOutput
from xalign_dist.objective.view import BatchMeta

__all__ = ["BatchMeta", "CollapseGuard", "DynamicObjective", "LossOutput"]
