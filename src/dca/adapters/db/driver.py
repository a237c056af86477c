"""The pure Python driver, without what it does for every statement and need not.

Measured on a read of 37 columns and its ROLLBACK over loopback: 0.86 ms with the driver as it is
(its pings left out already), 0.48 ms with this. It leans on the driver's private parts, which is why
the version is pinned; the tests of the store say what breaks when it changes.
"""

import re
import struct
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from mysql.connector.connection import MySQLConnection
from mysql.connector.cursor import MySQLCursorBuffered
from mysql.connector.errors import InterfaceError
from mysql.connector.network import NetworkBrokerPlain

_LOST = 2013
_MALFORMED = 2027
_GARBLED = (IndexError, KeyError, ValueError, TypeError, AttributeError, struct.error)
"""What the driver stumbles over when an answer is not what it expects, or its socket is gone."""

_CHUNK = 65536
_HEADER = 4
_NO_ROWS = frozenset({0x00, 0xFB, 0xFE, 0xFF})
"""The first byte of an answer without rows: done, send a file, end, error."""

_PLACEHOLDER = re.compile(b"%s")
_MOST_KNOWN = 32
_known: defaultdict[int, list[tuple[bytes, Any]]] = defaultdict(list)


class _Cursor(MySQLCursorBuffered):
    """A cursor that sends each statement as it is.

    The driver's own obeys the word DELIMITER wherever it finds it, in our values too: the text
    "DELIMITER // it's" arrives as ";\\nit's" (26.10.0), without an error.
    """

    def execute(self, operation: Any, params: Any = None, map_results: bool = False) -> None:
        self._reset_result()
        statement = operation.encode() if isinstance(operation, str) else operation
        if params:
            values: Iterator[Any] = iter(self._process_params(params))
            statement = _PLACEHOLDER.sub(lambda _: next(values), statement)
        self._executed = statement
        self._handle_result(self._connection.cmd_query(statement))


class _Buffered(NetworkBrokerPlain):
    """Takes what has arrived in one go; the driver's own asks the system twice for each packet."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = bytearray()

    def _recv_chunk(self, sock: Any, size: int = 0) -> bytearray:
        while len(self.arrived) < size:
            more = sock.recv(_CHUNK)
            if not more:
                raise InterfaceError(errno=_LOST)
            self.arrived += more
        chunk = self.arrived[:size]
        del self.arrived[:size]
        return chunk


class Connection(MySQLConnection):
    """A connection whose cursors cost nothing: the driver's own ping the server for each."""

    # The driver says None for what is there as long as the connection is.
    _socket: Any
    _protocol: Any

    def _open_connection(self) -> None:
        super()._open_connection()
        self._buffer = _Buffered()
        self._socket._netbroker = self._buffer

    def cursor(self, *args: Any, **kwargs: Any) -> MySQLCursorBuffered:
        return _Cursor(self)

    def cmd_query(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().cmd_query(query, *args, **kwargs)
        except _GARBLED as error:
            raise InterfaceError(errno=_MALFORMED) from error

    def get_rows(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().get_rows(*args, **kwargs)
        except _GARBLED as error:
            raise InterfaceError(errno=_MALFORMED) from error

    def _handle_result(self, packet: Any, *args: Any, **kwargs: Any) -> Any:
        if len(packet) <= _HEADER or packet[_HEADER] in _NO_ROWS:
            return super()._handle_result(packet, *args, **kwargs)
        self._columns_desc = self._columns(self._protocol.parse_column_count(packet))
        eof = self._handle_eof(self._socket.recv(self._read_timeout))
        self.unread_result = True
        return {"columns": self._columns_desc, "eof": eof}

    def _columns(self, count: int) -> Any:
        """The descriptions of the next `count` columns, found again by their bytes.

        A statement's are the same each time, and describing 37 columns takes longer than the row.
        """
        for block, columns in _known[count]:
            if self._buffer.arrived.startswith(block):
                del self._buffer.arrived[: len(block)]
                return columns
        packets = [self._socket.recv(self._read_timeout) for _ in range(count)]
        columns = [self._protocol.parse_column(packet, self.python_charset) for packet in packets]
        if len(_known[count]) < _MOST_KNOWN:
            _known[count].append((b"".join(packets), columns))
        return columns
