"""Fine-tuning: go on from a stored model, carefully.

What learns grows along a ladder: nothing (new calibration only), the heads, the last layer and what
reads it, everything. The rest stays as it was. The learning rate is a tenth, every step is pulled a
little towards the weights it began with, and at least half of every batch are bars that the model
has learned from before (replay), so that a short new stretch does not wipe out a long old one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from daemon.domain.failures import ModelError
from daemon.domain.units import iso
from strategies.forecast.checkpoint import NETWORKS, Manifest, load
from strategies.forecast.inference import member_weights
from strategies.forecast.inputs.dataset import Table
from strategies.forecast.inputs.windows import window_bars
from strategies.forecast.networks.network import Network
from strategies.forecast.training.job import Job, Longs, OriginKind, Tune
from strategies.forecast.training.splits import Fold

RATE_SHARE: Final = 0.1  # of the learning rate that the model was trained with
PULL: Final = 5.0  # times the learning rate: the share of the way back taken in a step


class Tuning:
    """Hold the model that is tuned."""

    def __init__(self, job: Job) -> None:
        if job.parent is None:
            raise ModelError("the job names no model to tune")
        parent = load(job.parent)
        if parent.manifest.kind not in NETWORKS:
            raise ModelError(
                f"model {parent.model_id} is a {parent.manifest.kind}: only networks can be tuned,"
                f" {', '.join(NETWORKS)}"
            )
        manifest = parent.manifest
        if manifest.origin.kind is OriginKind.GENERATED is not job.origin.kind:
            raise ModelError(
                f"model {parent.model_id} learned from a generated market: tuned on other bars it"
                " would pass for one of theirs"
            )
        if job.settings.folds != 1:
            raise ModelError(
                f"model {parent.model_id} is tuned on one fold, and the job asks for"
                f" {job.settings.folds}"
            )
        told = (manifest.timeframes, manifest.covariates, manifest.shape.members)
        if told != (job.timeframes, job.covariates, job.settings.members):
            raise ModelError(
                f"model {parent.model_id} cannot be tuned by this job: its timeframes, covariates"
                " or number of networks are others"
            )
        self.tune = job.settings.tune
        self._learned_until_ms = manifest.data.learned_until_ms
        self._stopped_until_ms = _stopped_until_ms(manifest)
        self._parent = parent
        self._began: dict[str, Tensor] = {}

    def refuse_known(self, folds: Sequence[Fold]) -> None:
        """Raise ModelError where the model was fitted to what its tuned form would be scored on.

        What chose when to keep its weights counts too: the best of several looks flatters.
        """
        first_ms = min(fold.test.start_ms for fold in folds)
        if first_ms < self._stopped_until_ms:
            raise ModelError(
                f"model {self._parent.model_id} has learned from bars until"
                f" {iso(self._learned_until_ms)} and was stopped by bars until"
                f" {iso(self._stopped_until_ms)} at most; scores and calibration of {self.tune}"
                f" would be taken from {iso(first_ms)} on: give bars that reach further, or lower"
                " training.days"
            )

    def learned_until(self, fold: Fold) -> int:
        """Give the end of what the weights were fitted to, now or before."""
        if self.tune is Tune.RECALIBRATE:
            return self._learned_until_ms
        return max(self._learned_until_ms, fold.train.end_ms)

    def begin(self, network: Network, member: int) -> None:
        """Give a network the weights of a member, and freeze what is not to learn."""
        mine = member_weights(self._parent.weights, member)
        try:
            network.load_state_dict({k: torch.from_numpy(w.copy()) for k, w in mine.items()})
        except RuntimeError as e:
            raise ModelError(f"model {self._parent.model_id}: weights do not fit: {e}") from e
        learning = set(_learning(network, self.tune))
        for weight in network.parameters():
            weight.requires_grad_(weight in learning)
        self._began = {k: w.detach().clone() for k, w in network.named_parameters()}

    def pull(self, network: Network, rate: float) -> None:
        """Move what learns towards what it began with."""
        with torch.no_grad():
            for name, weight in network.named_parameters():
                if weight.requires_grad:
                    weight.lerp_(self._began[name].to(weight.device), rate * PULL)

    def rows(self, tables: Sequence[Table], fold: Fold) -> list[list[Longs]]:
        """Give for each timeframe what was learned before and what is new, in this order.

        Raises ModelError where one of them is empty.
        """
        found = []
        for table in tables:
            train = table.within(fold.train)
            is_old = table.close_ms[train] < self._learned_until_ms
            if is_old.all() or not is_old.any():
                raise ModelError(
                    f"tuning needs bars on both sides of {iso(self._learned_until_ms)}, up to where"
                    f" model {self._parent.model_id} has learned; those to learn from lie between"
                    f" {iso(fold.train.start_ms)} and {iso(fold.train.end_ms)}"
                )
            found.append([train[is_old], train[~is_old]])
        return found


def _stopped_until_ms(manifest: Manifest) -> int:
    """Bound where the part ends that a model was stopped by, by the length of what it could use."""
    data, longest_ms = manifest.data, max(t.ms for t in manifest.timeframes)
    before_ms = (window_bars(manifest.shape.sequence_bars) - 1) * longest_ms
    usable_ms = data.to_ms - data.from_ms - before_ms
    return data.learned_until_ms + int(manifest.settings.stop_share * usable_ms)


def _learning(network: Network, tune: Tune) -> Iterator[nn.Parameter]:
    """Yield the weights that learn."""
    if tune is Tune.FULL:
        yield from network.parameters()
    if tune in (Tune.HEAD, Tune.LAST):
        yield from network.heads.parameters()
    if tune is Tune.LAST:
        yield from network.encoder.last_layer()
        yield from network.pool.parameters()
        yield network.pool_share
        yield from network.products.parameters()
        if network.cross_asset is not None:
            yield from network.cross_asset.parameters()
