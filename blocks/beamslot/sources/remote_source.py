"""The beginning of an edge from another run: what comes from there goes out."""

from typing import ClassVar, Self

from pydantic import Field, field_validator, model_validator

from beamslot.errors import BadParam
from beamslot.runtime import Block, Out
from beamslot.runtime.keys import check_endpoint, host_of


class RemoteSource(Block):
    """Stream what a `remote_sink` in another run hands over, with its slots and its description.

    {name: rx, id: remote_source, parameters: {connect: "tcp://127.0.0.1:5555"}}

    takes from {name: tx, id: remote_sink, parameters: {bind: "tcp://127.0.0.1:5555"}}. The two runs may start in any
    order, and wait for each other. Between machines both have keys: see `remote_sink`.
    """

    remote: ClassVar[str] = "connect"

    stream = Out()

    connect: str = Field(description="endpoint of the remote_sink: tcp://HOST:PORT or ipc:///PATH")
    channel: str = Field("", pattern="^([a-z][a-z0-9_]*)?$", description="which stream; both ends name the same")
    key: str | None = Field(None, min_length=1, description="file of our own keys, NAME.key_secret")
    server_key: str | None = Field(None, min_length=1, description="public key of the remote_sink, NAME.key")

    @field_validator("connect")
    @classmethod
    def _endpoint(cls, connect: str) -> str:
        try:
            host = host_of(connect)
        except BadParam as error:
            raise ValueError(str(error).partition("wanted ")[2]) from None
        if host == "*":
            raise ValueError("the host that the remote_sink runs on")
        return connect

    @model_validator(mode="after")
    def _keys(self) -> Self:
        if (self.key is None) != (self.server_key is None):
            raise ValueError("key and server_key go together; give both or none")
        try:
            check_endpoint(self.connect, self.key is not None)
        except BadParam as error:
            raise ValueError(str(error)) from None
        return self
