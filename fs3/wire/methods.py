"""The one binding table: every method of every service, read from the .proto files' own descriptors."""

from __future__ import annotations

from typing import Any

from google.protobuf import message_factory

from fs3.model.method import Method, PayloadSide
from fs3.wire.pb import common_pb2, meta_pb2, mgmtd_pb2, process_pb2, storage_pb2


class Service:
    """The methods of one service as attributes: `META.Stat`."""

    def __init__(self, descriptor: Any) -> None:
        self.full_name: str = descriptor.full_name
        self.descriptor = descriptor
        self.methods: tuple[Method, ...] = tuple(_method(descriptor, method) for method in descriptor.methods)
        for method in self.methods:
            setattr(self, method.name, method)

    def __getattr__(self, name: str) -> Method:
        raise AttributeError(f"{self.full_name} has no method {name!r}")


def _method(service: Any, descriptor: Any) -> Method:
    spec = descriptor.GetOptions().Extensions[common_pb2.method]
    return Method(
        id=spec.id,
        service=service.full_name,
        name=descriptor.name,
        request=message_factory.GetMessageClass(descriptor.input_type),
        reply=message_factory.GetMessageClass(descriptor.output_type),
        payload=PayloadSide(spec.payload),
        streaming=descriptor.server_streaming,
        repeatable=spec.repeatable,
        rights=sum({1 << (number - 1) for number in spec.rights}),
        is_forwardable="from_target" in descriptor.input_type.fields_by_name,
        is_sized=PayloadSide(spec.payload) is PayloadSide.REPLY and "lengths" in descriptor.input_type.fields_by_name,
    )


MGMTD = Service(mgmtd_pb2.DESCRIPTOR.services_by_name["Mgmtd"])
META = Service(meta_pb2.DESCRIPTOR.services_by_name["Meta"])
STORAGE = Service(storage_pb2.DESCRIPTOR.services_by_name["Storage"])
PROCESS = Service(process_pb2.DESCRIPTOR.services_by_name["Process"])

SERVICES = (MGMTD, META, STORAGE, PROCESS)
METHODS: dict[int, Method] = {method.id: method for service in SERVICES for method in service.methods}
"""Method number -> method."""

assert len(METHODS) == sum(len(service.methods) for service in SERVICES), "a method id is used twice"
assert 0 not in METHODS, "a method has no id"
assert all(method.rights for method in METHODS.values()), "a method does not say who may call it"
