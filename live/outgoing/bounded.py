"""A connection that takes so much of an answer and no more.

aiohttp parses whatever comes as fast as it comes: interim answers (1xx), empty lines and extensions
of chunks without end kept the loop of the settler busy for a second at a time. Here it sees the
first `TAKEN_BYTES_MAX` of an answer; who sends on is cut off.
Called by: the connector (guard.py), through a name of aiohttp that is not public; the version is
pinned, and tests flood it.
"""

from typing import Any

from aiohttp.client_proto import ResponseHandler

TAKEN_BYTES_MAX = 64 * 1024  # headers have 8 KiB a line at most, and of a body a few KiB are kept


class BoundedHandler(ResponseHandler):
    _left = TAKEN_BYTES_MAX

    def set_response_params(self, **kwargs: Any) -> None:
        """The next request on this connection begins."""
        self._left = TAKEN_BYTES_MAX
        super().set_response_params(**kwargs)

    def data_received(self, data: bytes) -> None:
        if data and self._left <= 0:
            if self.transport is not None:
                self.transport.abort()
            return
        taken = data[: self._left]
        self._left -= len(taken)
        super().data_received(taken)
