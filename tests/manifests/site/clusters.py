"""A site's cluster as far as admission goes."""

from __future__ import annotations

from dataclasses import dataclass

from tests.manifests.site.admission import Denial, Manifest, Policy, Review, denials
from tests.manifests.site.overlays import template_of
from tests.manifests.site.stored import created, filled, updated


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A site's cluster with one overlay applied, as far as admission goes.

    Attributes:
        objects: of the overlay.
        policies: its admission policies.
        pins: what they take as given; a test may change its own copy.
    """

    objects: list[Manifest]
    policies: list[Policy]
    pins: dict[str, str]

    @property
    def template(self) -> str:
        """The site's template of a Job."""
        return template_of(self.objects)

    def job(self, step: str = "train") -> Manifest:
        """A permitted Job as admission sees it created."""
        return created(filled(self.template, step=step))

    def denials(self, review: Review) -> list[Denial]:
        """What speaks against a request."""
        return denials(self.policies, review, self.pins)

    def on_create(self, job: Manifest) -> list[Denial]:
        """What speaks against creating a Job, by the dispatcher."""
        return self.denials(Review(resource="jobs.batch", operation="CREATE", new=job))

    def admits(self, job: Manifest) -> bool:
        """Whether nothing speaks against creating a Job; looks no further than the first denial."""
        review = Review(resource="jobs.batch", operation="CREATE", new=job)
        concerned = [policy for policy in self.policies if policy.concerns(review)]
        return not any(True for policy in concerned for _ in policy.denials(review, self.pins))

    def on_update(self, old: Manifest, new: Manifest) -> list[Denial]:
        """What speaks against changing a Job, by one who may otherwise do anything."""
        review = Review(
            resource="jobs.batch",
            operation="UPDATE",
            user="kubernetes-admin",
            old=updated(old),
            new=updated(new),
        )
        return self.denials(review)
