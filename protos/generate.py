"""Generate the Python code of every proto beside its source: `python protos/generate.py`.

`--check` writes into an empty folder instead and fails when the committed code differs.
Directory, proto package and Python import are the same path below `protos/`, so no generated
import is ever rewritten.
"""

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent
# They lie beside this Python, whatever the PATH says.
PLUGINS = [
    f"--plugin={name}={Path(sys.executable).with_name(name)}"
    for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
]


def generate(target: Path) -> None:
    """Write messages, stubs, type stubs and the descriptor set of all protos below `target`."""
    sources = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.proto"))
    services = [s for s in sources if "\nservice " in (ROOT / s).read_text(encoding="utf-8")]
    well_known = str(files("grpc_tools") / "_proto")
    includes = ["protoc", *PLUGINS, f"-I{ROOT}", f"-I{well_known}"]
    messages = [f"--python_out={target}", f"--mypy_out=quiet:{target}"]
    stubs = [f"--grpc_python_out={target}", f"--mypy_grpc_out=quiet:{target}"]
    descriptors = [
        f"--descriptor_set_out={target}/release_manager/descriptors.binpb",
        "--include_source_info",
        "--include_imports",
    ]
    (target / "release_manager").mkdir(parents=True, exist_ok=True)
    for arguments, protos in (
        (messages, sources),
        (stubs, services),
        (descriptors, [s for s in sources if s.startswith("release_manager/")]),
    ):
        if protos and protoc.main([*includes, *arguments, *protos]) != 0:
            sys.exit("protoc failed; its message is above")


def stale_files() -> list[str]:
    """Paths of committed generated files that differ from what the protos give now."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        expected = {path.relative_to(fresh): path for path in fresh.rglob("*") if path.is_file()}
        committed = {
            path.relative_to(ROOT)
            for pattern in ("*_pb2*.py", "*_pb2*.pyi", "descriptors.binpb")
            for path in ROOT.rglob(pattern)
        }
        differing = [
            name
            for name, path in expected.items()
            if not (ROOT / name).exists() or (ROOT / name).read_bytes() != path.read_bytes()
        ]
        return sorted(str(name) for name in [*differing, *(committed - set(expected))])


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        if stale := stale_files():
            sys.exit("not in step with the protos, run `make protos`: " + ", ".join(stale))
    else:
        generate(ROOT)
