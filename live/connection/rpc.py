"""One rpc on its way from a connection to its handler and back."""

import orjson

from live.base.errors import CallError
from live.domain.caller import Caller
from live.domain.ids import ShowId
from live.protocol import codes
from live.protocol.codes import Failure
from live.protocol.session import Session


def failure_of(error: Exception) -> Failure:
    """Say an error in the protocol's words; what is not meant for clients stays inside."""
    if isinstance(error, CallError):
        return Failure(error.code, str(error), error.temporary)
    return codes.INTERNAL


class SessionCall:
    """The RpcCall of one session."""

    __slots__ = (
        "_command",
        "_open",
        "_session",
        "address",
        "caller",
        "connection",
        "data",
        "show",
    )

    def __init__(
        self, session: Session, command: int, caller: Caller, show: ShowId | None, data: bytes
    ) -> None:
        self.caller = caller
        self.show = show
        self.data = data
        self.connection = session.client
        self.address = session.address
        self._session = session
        self._command = command
        self._open = True

    def reply(self, answer: object) -> None:
        if self._open:
            self._open = False
            data = answer if isinstance(answer, bytes) else orjson.dumps(answer)
            self._session.reply_rpc(self._command, data)

    def fail(self, error: Exception) -> None:
        if self._open:
            self._open = False
            self._session.fail(self._command, failure_of(error))
