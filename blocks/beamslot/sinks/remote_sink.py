"""The end of an edge to another run: what comes in goes there."""

from typing import ClassVar, Self

from pydantic import Field, field_validator, model_validator

from beamslot.errors import BadParam
from beamslot.runtime import Block, In
from beamslot.runtime.keys import check_endpoint, host_of


class RemoteSink(Block):
    """Hand any stream to a `remote_source` in another run, lossless and in order, as over any edge.

    {name: tx, id: remote_sink, parameters: {bind: "tcp://*:5555", key: roof.key_secret, allow: desk.key}}

    in the one graph, and in the other, on a machine that reaches the first as 10.1.1.2,

    {name: rx, id: remote_source,
     parameters: {connect: "tcp://10.1.1.2:5555", key: desk.key_secret, server_key: roof.key}}

    `beamslot keys new roof` and `keys new desk` make the keys; what ends in .key_secret stays where it was made.
    Within a machine, on 127.0.0.1 or ipc:///PATH, it goes without.
    """

    remote: ClassVar[str] = "bind"

    stream = In()

    bind: str = Field(description="endpoint to wait at: tcp://HOST:PORT (* for every address) or ipc:///PATH")
    channel: str = Field("", pattern="^([a-z][a-z0-9_]*)?$", description="which stream; both ends name the same")
    key: str | None = Field(None, min_length=1, description="file of our own keys, NAME.key_secret")
    allow: str | None = Field(
        None, min_length=1, description="who may connect: a public key, NAME.key, or a directory of them"
    )

    @field_validator("bind")
    @classmethod
    def _endpoint(cls, bind: str) -> str:
        try:
            host_of(bind)
        except BadParam as error:
            raise ValueError(str(error).partition("wanted ")[2]) from None
        return bind

    @model_validator(mode="after")
    def _keys(self) -> Self:
        if (self.key is None) != (self.allow is None):
            raise ValueError("key and allow go together; give both or none")
        try:
            check_endpoint(self.bind, self.key is not None)
        except BadParam as error:
            raise ValueError(str(error)) from None
        return self
