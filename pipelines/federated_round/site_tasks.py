"""The tasks of one site in a round, chained, each under its own name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from kfp import dsl
from kfp.dsl import base_component

from pipelines.federation import Federation
from pipelines.federation_sections import Site
from pipelines.placement import job_terms, place_at_site

Component: TypeAlias = base_component.BaseComponent


class SiteTasks:
    """Unrolls a site's steps; every reason a step gives is passed on to the next."""

    def __init__(self, federation: Federation, site: Site, ticket: Any, *, of: str = "") -> None:
        """Nothing is added to the pipeline yet; `of` is put before names of steps that are there twice."""
        self.name, self.cloud = site.name, site.cloud
        self._of = of
        self._federation, self._site = federation, site
        self._common = {
            "site": site.name,
            "ticket": ticket,
            "store_uri": site.store_uri,
            "exchange_uri": federation.exchange_uri,
            "keys_uri": federation.keys_uri,
            "deadline_s": site.placement.deadline_seconds,
            "job": job_terms(site),
        }
        self.commitment: Any = ""
        self.reason: Any = ""
        self.shared: Any = None
        self.sealed: Any = ""
        self.released: Any = ""
        self.figures: Any = ""
        self.measure_reason: Any = ""

    def learn(self, ingest: Component, augment: Component, train: Component, *, device: Any) -> None:
        """Records to features to a committed update."""
        data, task, encoder = self._site.data, self._federation.task, self._federation.encoder
        text = {"template": task.template, "classes": task.classes}
        rows = self._placed(
            "ingest",
            ingest(
                source_kind=data.source,
                source_uri=data.uri,
                sql=data.sql,
                label_column=task.label_column,
                split_column=task.split.column,
                test_fraction=task.split.test_fraction,
                columns=[column.model_dump(mode="json") for column in task.columns],
                **text,
                **self._common,
            ),
        )
        self._augmented = self._placed(
            "augment",
            augment(
                rows=rows.outputs["rows"],
                reason=rows.outputs["reason"],
                encoder_name=encoder.name,
                encoder_revision=encoder.revision,
                encoder_digest=encoder.digest,
                encoder_max_length=encoder.max_length,
                encoder_dimensions=encoder.dimensions,
                device=device,
                **text,
                **self._common,
            ),
            computes=True,
        )
        trained = self._placed(
            "train", train(**self._features(), device=device, **self._common), computes=True
        )
        self.commitment, self.reason = trained.outputs["commitment"], trained.outputs["reason"]

    def share(self, share: Component, *, roster: Any) -> None:
        """Shares of what will mask the site's update to the exchange."""
        self.shared = self._placed(
            "share", share(roster=roster, commitment=self.commitment, reason=self.reason, **self._common)
        )
        self.reason = self.shared.outputs["reason"]

    def seal(self, seal: Component, *, roster: Any, sharers: Sequence[SiteTasks] = ()) -> None:
        """The committed update to the exchange, sealed once all `sharers` have dealt their shares or not."""
        sealed = self._placed(
            "seal", seal(roster=roster, commitment=self.commitment, reason=self.reason, **self._common)
        )
        sealed.after(*(each.shared for each in sharers))
        self.sealed, self.reason = sealed.outputs["sealed"], sealed.outputs["reason"]

    def release(self, release: Component, *, sealed_sum: Any) -> None:
        """What lifts the site's masks from the agreed sum, to the exchange."""
        released = self._placed("release", release(sealed_sum=sealed_sum, reason=self.reason, **self._common))
        self.released = released.outputs["released"]

    def unmask(self, unmask: Component, *, sealed_sum: Any) -> None:
        """The site's part of what lifts all masks from the agreed sum, to the exchange."""
        unmasked = self._placed("unmask", unmask(sealed_sum=sealed_sum, reason=self.reason, **self._common))
        self.released = unmasked.outputs["unmasked"]

    def measure(self, adapt: Component, evaluate: Component, *, model: Any) -> None:
        """The committed model, adapted to this site and evaluated at it."""
        adapted = self._adapted = self._placed(
            "adapt", adapt(model=model, **self._features(), **self._common)
        )
        evaluated = self._placed(
            "evaluate",
            evaluate(
                model=model,
                features=self._augmented.outputs["features"],
                adaptation=adapted.outputs["adaptation"],
                reason=adapted.outputs["reason"],
                release=self._federation.release(self._site),
                classes=self._federation.task.classes,
                **self._common,
            ),
        )
        self.figures, self.measure_reason = evaluated.outputs["figures"], evaluated.outputs["reason"]

    def counting(self, ticket: Any, of: str) -> SiteTasks:
        """The same site in the round's second exchange, which goes on from what it has measured."""
        other = SiteTasks(self._federation, self._site, ticket, of=of)
        other._augmented, other._adapted = self._augmented, self._adapted
        return other

    def count(self, count: Component) -> None:
        """What models say of the test rows, to a commitment; under an epsilon the committed one alone."""
        adapted = {
            "adaptation": self._adapted.outputs["adaptation"],
            "reason": self._adapted.outputs["reason"],
        }
        if self._federation.privacy is not None:
            # A site without training rows has no adaptation, which nobody may learn from its absence here.
            adapted = {"adaptation": "", "reason": self._augmented.outputs["reason"]}
        features = self._augmented.outputs["features"]
        counted = self._placed("count", count(features=features, **adapted, **self._common))
        self.commitment, self.reason = counted.outputs["commitment"], counted.outputs["reason"]

    def _features(self) -> dict[str, Any]:
        return {"features": self._augmented.outputs["features"], "reason": self._augmented.outputs["reason"]}

    def _placed(self, step: str, task: dsl.PipelineTask, *, computes: bool = False) -> dsl.PipelineTask:
        of = "" if step == "count" else self._of
        title = f"{of}{step} · {self.name}"
        return place_at_site(task, self._federation, self._site, title=title, computes=computes)
