"""Serve pages: on this machine only unless told otherwise, and then to those who know the token of the address."""

import hmac
import logging
import secrets
import signal
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document
from bokeh.server.auth_provider import AuthProvider
from bokeh.server.server import Server
from tornado.web import HTTPError, RequestHandler

from beamslot.errors import BindError
from beamslot.view.page import fill
from beamslot.view.panels import QUERY
from beamslot.view.watch import Hub

LOOPBACK = "127.0.0.1"

TOKEN = "token"  # noqa: S105
"""Name of the token in the address of a page."""

MOST_PORT = 65535

SESSION_LIFE = 15_000
"""A page that was closed is forgotten after so long [ms]."""


def is_loopback(address: str) -> bool:
    """Whether an address is reached from this machine only."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


class TokenOnly(AuthProvider):
    """Lets in whoever has the token in the address; anybody else is refused."""

    def __init__(self, token: str) -> None:
        self._token = token
        super().__init__()

    @property
    def get_user(self) -> Callable[[Any], Any]:
        """Return what tells who asks."""

        def user(handler: RequestHandler) -> str | None:
            given = handler.get_query_argument(TOKEN, "")
            return "viewer" if hmac.compare_digest(given.encode(), self._token.encode()) else None

        return user

    @property
    def get_user_async(self) -> None:
        """Nothing: who asks is known at once."""
        return None

    @property
    def login_url(self) -> None:
        """Nothing: nobody logs in."""
        return None

    @property
    def get_login_url(self) -> Callable[[Any], str]:
        """Return what refuses a stranger."""

        def refuse(_: RequestHandler) -> str:
            raise HTTPError(403, "wanted the address with its token, as beamslot view printed it")

        return refuse

    @property
    def login_handler(self) -> None:
        """Nothing: nobody logs in."""
        return None

    @property
    def logout_url(self) -> None:
        """Nothing: nobody logs out."""
        return None

    @property
    def logout_handler(self) -> None:
        """Nothing: nobody logs out."""
        return None


class Viewer:
    """A server of pages; `url` is where.

    To look needs the token of the address from elsewhere only; to change anything needs it always, since any user of
    this machine can come to its ports, while a run is its user's own.
    wanted: name or pid of a run, the newest where it is empty    port: 0 for a free one
    read_only: whether nobody may change anything
    raises BindError where the address cannot be served
    """

    def __init__(self, wanted: str = "", *, address: str = LOOPBACK, port: int = 0, read_only: bool = False) -> None:
        self._hub = Hub(wanted)
        open_to_all = is_loopback(address)
        self._read_only = read_only
        self._token = "" if open_to_all and read_only else secrets.token_urlsafe(16)
        if port > MOST_PORT:
            raise BindError(f"view: {address}:{port} cannot be served; wanted a port up to {MOST_PORT}")
        # That any origin may come is meant where there is a token, and a page that is closed is no news.
        for name in ("bokeh.server.util", "bokeh.server.views.ws"):
            logging.getLogger(name).setLevel(logging.ERROR)
        more: dict[str, Any] = {} if open_to_all else {"auth_provider": TokenOnly(self._token)}
        try:
            self._server = Server(
                {"/": Application(FunctionHandler(self._fill))},
                address=address,
                port=port,
                # The names of a machine are not known here: who has the token may come by any of them.
                allow_websocket_origin=None if open_to_all else ["*"],
                unused_session_lifetime_milliseconds=SESSION_LIFE,
                check_unused_sessions_milliseconds=SESSION_LIFE // 3,
                **more,
            )
        except OSError as error:
            raise BindError(f"view: {address}:{port} cannot be served: {error}") from None
        shown = f"[{address}]" if ":" in address else address
        self.url = f"http://{shown}:{self._server.port}/" + (f"?{TOKEN}={self._token}" if self._token else "")

    def _fill(self, document: Document) -> None:
        context: Any = document.session_context
        arguments = context.request.arguments if context and context.request else {}
        wanted, given = ((arguments.get(name) or [b""])[0].decode(errors="replace") for name in (QUERY, TOKEN))
        known = bool(self._token) and hmac.compare_digest(given.encode(), self._token.encode())
        fill(document, self._hub.watch(wanted), given if known else "", steers=known and not self._read_only)

    def serve(self) -> None:
        """Serve until interrupted or terminated."""
        loop = self._server.io_loop
        self._hub.watch()
        signal.signal(signal.SIGTERM, lambda *_: loop.add_callback_from_signal(loop.stop))
        self._server.start()
        try:
            loop.start()
        finally:
            self._hub.stop()
            self._server.stop()
