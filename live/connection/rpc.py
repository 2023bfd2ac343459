"""One rpc on its way from a connection to its handler and back."""

import orjson

from live.base.errors import Busy
from live.base.faults import as_call_error
from live.domain.caller import Caller
from live.domain.ids import ShowId
from live.protocol import codes
from live.protocol.codes import Failure
from live.protocol.session import Session


def failure_of(error: Exception, **ids: object) -> Failure:
    """Say an error in the protocol's words: where every command ends that failed.

    A fault that is not the client's is told to the log, with these ids; to them it is 111 where a
    repeat may mend it, and 100 where it is a bug.
    """
    if isinstance(error, TimeoutError):
        error = Busy("no answer in time: repeat with the same key")
    told = as_call_error("command.failed", error, **ids)
    if told.code == codes.INTERNAL.code:
        return codes.INTERNAL
    return Failure(told.code, str(told), told.temporary)


class SessionCall:
    """An RpcCall of one session; `method` is its name in the log."""

    __slots__ = (
        "_command",
        "_open",
        "_session",
        "address",
        "caller",
        "connection",
        "data",
        "method",
        "show",
    )

    def __init__(
        self,
        session: Session,
        command: int,
        caller: Caller,
        show: ShowId | None,
        method: str,
        data: bytes,
    ) -> None:
        self.caller = caller
        self.show = show
        self.method = method
        self.data = data
        self.connection = session.client
        self.address = session.address
        self._session = session
        self._command = command
        self._open = True

    def reply(self, answer: object) -> None:
        if self._open:
            data = answer if isinstance(answer, bytes) else orjson.dumps(answer)
            self._open = False
            self._session.reply_rpc(self._command, data)

    def fail(self, error: Exception) -> None:
        if self._open:
            self._open = False
            ids = {"method": self.method, "connection": self.connection, "show": self.show}
            self._session.fail(self._command, failure_of(error, **ids))
