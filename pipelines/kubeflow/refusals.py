"""What an endpoint may answer instead of what was asked.

UsageError                          exit 2
└── EndpointError                   nothing was had from the endpoint
    ├── EndpointUnreachableError    no answer: it may come later
    ├── EndpointDeniedError         it does not know us, or we may not
    ├── ForeignEndpointError        what answers there is no Kubeflow Pipelines API
    └── RefusedRequestError         it answers with an error of its own
        ├── MissingError            what was asked for is not there
        └── ConflictError           what was to be made is there
"""

from __future__ import annotations

from components.errors import UsageError


class EndpointError(UsageError):
    """An endpoint did not do as asked."""


class EndpointUnreachableError(EndpointError):
    """There was no answer, or only that there can be none now."""


class EndpointDeniedError(EndpointError):
    """The endpoint asks who we are, or refuses it."""


class ForeignEndpointError(EndpointError):
    """An answer that no Kubeflow Pipelines API gives: a login page, another server, another version."""


class RefusedRequestError(EndpointError):
    """The API's own error."""


class MissingError(RefusedRequestError):
    """An object that was asked for is not there."""


class ConflictError(RefusedRequestError):
    """An object of that name is there already."""
