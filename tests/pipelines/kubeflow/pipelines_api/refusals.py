"""The API's own errors, as its gateway writes them."""

from __future__ import annotations

from typing import Any

_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 500: 13, 501: 12, 503: 14}


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def body(self) -> dict[str, Any]:
        code = _CODES.get(self.status, 2)
        return {"error": str(self), "code": code, "message": str(self), "details": []}


def invalid(message: str) -> RefusedError:
    return RefusedError(400, f"InvalidInputError: {message}")


def not_found(kind: str, name: str) -> RefusedError:
    return RefusedError(404, f"ResourceNotFoundError: {kind} {name} not found")
