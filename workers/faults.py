"""Everything that can go wrong with a request, typed by whose fault it is.

A fault carries what every dialect needs to tell it: a status, a code, a message that is safe to
show (never a prompt, never the CLI's raw words) and, where waiting helps, for how long.
A dialect renders it once; nothing else turns an exception into a reply.
"""

from typing import ClassVar, Literal, TypeAlias, TypeVar

Blame: TypeAlias = Literal["client", "ours", "worker", "upstream"]
E = TypeVar("E", bound=BaseException)


class Fault(Exception):
    """The base of all faults. `message` names the fix where there is one.

    `retry_after` is in seconds. `retry` is False where trying again cannot help, so that clients
    which multiply retries are told not to.
    """

    blame: ClassVar[Blame] = "ours"
    status: int = 500
    code: str | None = None
    retry_after: float | None = None
    retry: bool = True

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status
        if retry_after is not None:
            self.retry_after = retry_after


class BadRequest(Fault):
    """The request cannot be served as it is; `param` names the field."""

    blame = "client"
    status = 400
    retry = False


class ModelNotFound(Fault):
    """The model or the profile does not exist."""

    blame = "client"
    status = 404
    code = "model_not_found"
    retry = False


class Forbidden(Fault):
    """A page or host that may not talk to this server."""

    blame = "client"
    status = 403
    code = "forbidden"
    retry = False


class Unauthorized(Fault):
    """No API key of this server, where one is needed."""

    blame = "client"
    status = 401
    code = "invalid_api_key"
    retry = False


class KeyLimited(Fault):
    """The API key has used up what it may."""

    blame = "client"
    status = 429
    code = "rate_limit_exceeded"


class TooLarge(Fault):
    """The body is over a limit."""

    blame = "client"
    status = 413
    code = "request_too_large"
    retry = False


class ContextTooLong(Fault):
    """The conversation does not fit the model's context window."""

    blame = "client"
    status = 400
    code = "context_length_exceeded"
    retry = False


class ConversationBusy(Fault):
    """Another turn of the conversation is running, and this one brings no history of its own."""

    blame = "client"
    status = 409
    code = "conversation_busy"
    retry_after = 1.0


class ConversationGone(Fault):
    """The conversation is known but its context is gone, and the request did not bring it."""

    blame = "client"
    status = 404
    code = "conversation_gone"
    retry = False


class Overloaded(Fault):
    """The queue is full, the wait was too long, or the daemon is stopping."""

    status = 503
    code = "overloaded"
    retry_after = 5.0


class BackendUnavailable(Fault):
    """There is no CLI that could answer: missing, logged out, or it cannot start."""

    status = 503
    code = "backend_unavailable"
    # The daemon looks for the CLI and its login again within that time.
    retry_after = 30.0
    retry = False


class NotSupported(Fault):
    """The request needs something that the installed version of the CLI was shown not to do."""

    blame = "worker"
    status = 501
    code = "unsupported_by_cli"
    retry = False


class WorkerDied(Fault):
    """A worker ended in the middle of a turn it had accepted."""

    blame = "worker"
    status = 502
    code = "worker_died"


class TurnTimedOut(Fault):
    """A turn was ended because it said nothing and made no progress for too long, or took too long
    in all. Its worker's process tree is killed. Work may have been done: doing it again is the
    client's decision, and would most likely end as this did."""

    blame = "worker"
    status = 504
    code = "turn_timeout"
    retry = False


class WorkerStartFailed(Fault):
    """A worker ended, or said nothing, before it was ready. No client has been promised it."""

    blame = "worker"
    status = 503
    code = "backend_unavailable"
    retry_after: float | None = 30.0
    retry = False


class SessionLost(WorkerStartFailed):
    """A session cannot be resumed: its transcript is gone, is not as its last turn has left it, or
    the CLI did not get ready with it.

    Nothing has been accepted, and another worker can be given the history. It says nothing of
    whether workers can be started, so it is no reason to wait before the next one.
    """

    code = "session_lost"
    retry_after = None


class ProtocolBroken(WorkerDied):
    """A worker said something that this protocol does not allow; it can no longer be trusted."""

    code = "worker_protocol"


class UpstreamFault(Fault):
    """The service behind the CLI failed, or broke off in the middle of an answer."""

    blame = "upstream"
    status = 502
    code = "upstream_error"


class ChoiceNotMade(UpstreamFault):
    """The model had to call a function, was asked twice, and called none."""

    code = "tool_choice_not_made"


class SchemaNotMet(UpstreamFault):
    """The model gave no answer of the schema it is bound to."""

    code = "schema_not_met"


class UpstreamUnreachable(UpstreamFault):
    """The service could not be reached, or the connection to it was lost."""

    code = "upstream_unreachable"
    retry_after = 5.0


class UpstreamTimeout(UpstreamFault):
    """The service took too long by its own measure."""

    status = 504
    code = "upstream_timeout"


class UpstreamRefused(UpstreamFault):
    """The service refused the request; with the status it gave."""

    status = 400
    code = "upstream_refused"
    retry = False


class UseRefused(UpstreamRefused):
    """The service does not let this account or login be used in this way. Only its owner can
    change that, with the service or an administrator."""

    status = 403
    code = "use_refused"


class UsageLimit(UpstreamFault):
    """A usage window of the account is used up, for the time that is told.

    `window` is the service's name of it, `resets_at` when it begins anew, in epoch seconds.
    """

    status = 429
    code = "rate_limit_exceeded"
    # Where the service named no reset, or none that can be believed: then it is tried again.
    retry_after = 60.0

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        window: str | None = None,
        resets_at: float | None = None,
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.window = window
        self.resets_at = resets_at


class RateLimited(UpstreamFault):
    """The service asks to slow down for a moment."""

    status = 429
    code = "rate_limit_exceeded"
    retry_after = 10.0


class UpstreamOverloaded(UpstreamFault):
    """The service is overloaded."""

    status = 503
    code = "overloaded"
    retry_after = 10.0


def first_leaf(group: BaseExceptionGroup[E]) -> E:
    """The first exception in `group` that is no group: what nurseries raise has groups in it."""
    first = group.exceptions[0]
    return first_leaf(first) if isinstance(first, BaseExceptionGroup) else first


def internal_error() -> Fault:
    """What a client is told of an exception that is no Fault: a mistake of ours."""
    return Fault("The server failed to answer this request.", code="internal_error")
