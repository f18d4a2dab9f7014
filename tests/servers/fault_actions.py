"""What can become of a request at a ``FaultProxy``: the actions that its ``fail`` takes.

Each function here returns an action. A test may write its own: any function of an ``Exchange``.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, TypeAlias

from .http_wire import Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from .exchange import Exchange

    Action: TypeAlias = Callable[[Exchange], object]

__all__ = [
    "close_before_answer",
    "delay_first_byte",
    "lose_answer",
    "reset_in_body",
    "reset_in_request",
    "run_before",
    "short_body",
    "stall",
    "status",
    "truncate",
]


def status(code: int, error: str = "", *, headers: dict[str, str] | None = None, body: bytes | None = None) -> Action:
    """Answer with an error instead of asking the server.

    Args:
        code: the HTTP status.
        error: the server's own code; by default S3's for 403, 429, 500 and 503.
        headers: further ones, such as ``{"Retry-After": "1"}``.
        body: instead of the document that names ``error``: XML, or JSON on Google's interface of that name. A HEAD
            gets none.
    """
    error = error or _ERRORS.get(code, "InternalError")
    document = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{error}</Code><Message>injected</Message></Error>"
    said = [{"domain": "global", "reason": error, "message": "injected"}]
    json_document = json.dumps({"error": {"code": code, "message": "injected", "errors": said}})
    sent = [("x-ms-error-code", error), *(headers or {}).items()]

    def act(exchange: Exchange) -> None:
        # A HEAD's answer with a type and no content ends the process that uses pyarrow's Azure client (pyarrow 26): its
        # SDK parses the nothing as XML, and nobody catches what it throws. Real servers send none.
        kind, content = ("json", json_document) if "/storage/v1/" in exchange.path else ("xml", document)
        more = ("Content-Length", "0") if exchange.method == "HEAD" else ("Content-Type", f"application/{kind}")
        exchange.reach()
        exchange.answer(Response(code, [*sent, more], content.encode() if body is None else body))

    return act


_ERRORS = {403: "AccessDenied", 429: "TooManyRequests", 500: "InternalError", 503: "SlowDown"}


def reset_in_body(after: int = 0) -> Action:
    """Send the server's head and ``after`` bytes of its body, then reset the connection."""

    def act(exchange: Exchange) -> None:
        response = exchange.forward()
        exchange.begin(response)
        exchange.send(response.body[:after])
        exchange.reach()
        exchange.reset()

    return act


def short_body(by: int = 1) -> Action:
    """Send the server's answer without its last ``by`` bytes, which the head announces, and close in good order."""

    def act(exchange: Exchange) -> None:
        response = exchange.forward()
        exchange.begin(response)
        exchange.send(response.body[: max(0, len(response.body) - by)])
        exchange.reach()
        exchange.close()

    return act


def truncate(by: int = 1) -> Action:
    """Answer without the body's last ``by`` bytes and announce no more: what a broken cache or proxy does."""

    def act(exchange: Exchange) -> None:
        response = exchange.forward()
        exchange.reach()
        exchange.answer(dataclasses.replace(response, body=response.body[: max(0, len(response.body) - by)]))

    return act


def stall(after: int = 0) -> Action:
    """Send the server's head and ``after`` bytes of its body, then nothing, until the rule is released."""

    def act(exchange: Exchange) -> None:
        response = exchange.forward()
        exchange.begin(response)
        exchange.send(response.body[:after])
        exchange.wait()
        exchange.send(response.body[after:])
        exchange.ended = True

    return act


def delay_first_byte(seconds: float | None = None) -> Action:
    """Answer ``seconds`` late, or when the rule is released; None: only then.

    The server is asked before the delay: what the request changes there has happened meanwhile.
    """

    def act(exchange: Exchange) -> None:
        response = exchange.forward()
        exchange.wait(seconds)
        exchange.answer(response)

    return act


def close_before_answer(*, reset: bool = False) -> Action:
    """Read the request and close, or ``reset``, without an answer. The server does not hear of it."""

    def act(exchange: Exchange) -> None:
        exchange.body()
        exchange.reach()
        (exchange.reset if reset else exchange.close)()

    return act


def lose_answer() -> Action:
    """Pass the request on and close instead of answering: it was done, and the client cannot know."""

    def act(exchange: Exchange) -> None:
        exchange.forward()
        exchange.reach()
        exchange.close()

    return act


def reset_in_request(after: int = 0) -> Action:
    """Reset the connection once ``after`` bytes of the request's body have come. The server does not hear of it."""

    def act(exchange: Exchange) -> None:
        exchange.connection.stream.read(after)
        exchange.reach()
        exchange.reset()

    return act


def run_before(function: Callable[[], object]) -> Action:
    """Call ``function`` and then pass the request on: the world changes right before it arrives."""

    def act(exchange: Exchange) -> None:
        exchange.reach()
        function()

    return act
