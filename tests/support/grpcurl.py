"""grpcurl's command line over `buf curl`, for tests on machines that have only the latter.

Understands what the project's documentation uses: -plaintext, -cacert FILE, -H HEADER, -d JSON,
ADDRESS, METHOD, and `list` or `describe` not at all.
"""

import subprocess
import sys
from pathlib import Path

BUF = Path(sys.executable).with_name("buf")


def translated(words: list[str]) -> list[str]:
    """Return the arguments of `buf curl` for those of grpcurl."""
    scheme, options, places = "https", ["--protocol", "grpc"], []
    rest = iter(words)
    for word in rest:
        if word == "-plaintext":
            scheme = "http"
            options.append("--http2-prior-knowledge")
        elif word in {"-H", "-d", "-cacert"}:
            options += [{"-cacert": "--cacert"}.get(word, word), next(rest)]
        elif word.startswith("-"):
            message = f"grpcurl's option {word} has no translation"
            raise SystemExit(message)
        else:
            places.append(word)
    address, method = places
    return [*options, f"{scheme}://{address}/{method}"]


def install(directory: Path) -> None:
    """Put a program named `grpcurl` into a directory."""
    program = directory / "grpcurl"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__)}" "$@"\n')
    program.chmod(0o755)


if __name__ == "__main__":
    sys.exit(subprocess.run([BUF, "curl", *translated(sys.argv[1:])], check=False).returncode)
