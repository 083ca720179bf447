"""All Jobs that must be refused."""

from __future__ import annotations

from tests.manifests.site import forbidden_containers, forbidden_jobs, forbidden_pods

FORBIDDEN = [*forbidden_jobs.FORBIDDEN, *forbidden_pods.FORBIDDEN, *forbidden_containers.FORBIDDEN]
