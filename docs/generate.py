"""Write the generated parts of the manuals: `python -m docs.generate`.

A part lies between `<!-- generated: NAME -->` and `<!-- end -->` and is replaced as a whole; all
other text is left alone. The schema is read from an embedded PostgreSQL that is migrated for this
and thrown away. The pages in `api/` are generated as a whole, from the protos. `--check` writes
nothing and fails when a part or a page differs.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from docs.generator.api_pages import api_pages
from docs.generator.blocks import changed_pages, changed_wholes
from docs.generator.parts import read_parts
from shared.db.embedded import EmbeddedPostgres

FOLDER = Path(__file__).resolve().parent
API = FOLDER / "api"


def main() -> None:
    """Write, or with `--check` compare."""
    changed = changed_pages(FOLDER, _parts()) | changed_wholes(API, api_pages())
    if "--check" not in sys.argv[1:]:
        API.mkdir(exist_ok=True)
        for path, text in changed.items():
            if text is None:
                path.unlink()
            else:
                path.write_text(text, encoding="utf-8")
    elif changed:
        names = ", ".join(path.name for path in changed)
        sys.exit(f"not in step with the code, run `python -m docs.generate`: {names}")


def _parts() -> dict[str, str]:
    """Return the text of every part, by its name."""
    directory = Path(tempfile.mkdtemp(prefix="release-manager-docs-"))
    try:
        with EmbeddedPostgres(directory, settings={"fsync": "off"}) as postgres:
            subprocess.run(
                [sys.executable, "-m", "alembic", "upgrade", "head"],
                cwd=FOLDER.parent,
                env=os.environ | {"DATABASE_URL": postgres.url()},
                check=True,
            )
            return asyncio.run(read_parts(postgres.url()))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
