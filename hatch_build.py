"""Builds `fs3/wire/pb` from `proto`: as hatchling's build hook, and by hand as `python hatch_build.py`.

The generated modules are never edited and never committed. They are made with the protoc of the oldest protobuf runtime the
package admits, because a runtime loads code of its own and the previous major version only.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
PROTO = ROOT / "proto"
PACKAGE = ROOT / "fs3" / "wire" / "pb"
DOCSTRING = '"""Generated from proto by hatch_build.py; not edited by hand, not committed."""\n'


def generate() -> list[Path]:
    """Write `<name>_pb2.py` and `.pyi` for every proto file; returns them. RuntimeError when protoc refuses."""
    from grpc_tools import protoc

    sources = sorted(PROTO.glob("fs3/*/*.proto"))
    PACKAGE.mkdir(parents=True, exist_ok=True)
    (PACKAGE / "__init__.py").write_text(DOCSTRING)
    written = []
    include = Path(protoc.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as scratch:
        arguments = ["protoc", f"-I{PROTO}", f"-I{include}", f"--python_out={scratch}", f"--pyi_out={scratch}"]
        if protoc.main(arguments + [str(source) for source in sources]) != 0:
            raise RuntimeError(f"protoc could not compile {PROTO}")
        for path in sorted(Path(scratch).glob("fs3/*/*_pb2.py*")):
            # protoc names modules after the proto package; ours live on the wire floor.
            text = re.sub(r"\bfrom fs3\.v1 import\b", "from fs3.wire.pb import", path.read_text())
            target = PACKAGE / path.name
            if not target.exists() or target.read_text() != text:
                target.write_text(text)
            written.append(target)
    return written


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand in an environment without hatchling
    pass
else:

    class ProtoBuildHook(BuildHookInterface):  # type: ignore[type-arg]
        """Generates the protobuf modules before a wheel or an editable install is built."""

        PLUGIN_NAME = "custom"

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            """Called by hatchling; adds the generated files to the build although git ignores them."""
            build_data["artifacts"].extend(str(path.relative_to(ROOT)) for path in generate())
            build_data["artifacts"].append("fs3/wire/pb/__init__.py")


if __name__ == "__main__":
    for made in generate():
        sys.stdout.write(f"{made.relative_to(ROOT)}\n")
