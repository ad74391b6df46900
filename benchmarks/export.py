r"""ExportAuditLogs, against `psql \copy` of the same query, and against the usual way to do it.

The usual way is an ORM whose objects a csv module writes. Also: how much memory the service needs
more while it exports, and how fast an NDJSON export is made and then verified offline.
"""

import asyncio
import csv
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TextIO

from release_manager.audit.v1 import audit_pb2 as pb
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks.figures import Figure, Promise, alone, in_turns
from benchmarks.genuine import fill
from benchmarks.stage import PROJECT, Audit, Bench
from shared.db.embedded_host import program
from shared.db.engine import Database
from shared.db.models.audit import AuditLog
from shared.setting_values import driver_url

ENTRIES = 1_000_000
ROUNDS = 3
# The usual way is too slow for more; what counts is the rate.
ORM_ENTRIES = 50_000
AT_ONCE = 1_000
MIB = 1024 * 1024
QUERY = """
    SELECT id, user_id, action, resource_type, resource_id, details, ip_address, user_agent,
        to_char(created_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    FROM audit_logs WHERE category IN ('change', 'security') ORDER BY leaf_index
"""
COPY = f"\\copy ({' '.join(QUERY.split())}) TO '/dev/null' WITH (FORMAT csv)"


class Exporting:
    """The rounds of one ledger."""

    def __init__(self, audit: Audit, directory: Path) -> None:
        """Take the service, and where files can lie."""
        self._audit = audit
        self._directory = directory

    async def export(self, form: pb.ExportFormat.ValueType, keep: str = "") -> float:
        """Export everything; return rows per second. Kept under a name, or thrown away."""
        file = (self._directory / keep if keep else Path("/dev/null")).open("wb")
        wanted = pb.AuditLogFilter(category=pb.AUDIT_CATEGORY_ALL) if keep else None
        request = pb.ExportAuditLogsRequest(format=form, filter=wanted)
        last = pb.ExportAuditLogsResponse()
        began = time.perf_counter()
        with file:
            async for last in self._audit.stub.ExportAuditLogs(
                request, metadata=self._audit.metadata
            ):
                file.write(last.data)
        took = time.perf_counter() - began
        if not last.manifest:
            raise RuntimeError(f"the export did not end well: {last}")
        (self._directory / "manifest").write_text(last.manifest)
        return last.rows / took

    async def by_psql(self) -> float:
        """Copy the same rows by psql; return rows per second."""
        began = time.perf_counter()
        url = driver_url(self._audit.database_url)
        process = await asyncio.create_subprocess_exec(
            *(program("psql"), "--no-psqlrc", "--command", COPY, url),
            stdout=asyncio.subprocess.PIPE,
        )
        said, _none = await process.communicate()
        took = time.perf_counter() - began
        if process.returncode != 0:
            raise RuntimeError("psql failed")
        return int(said.split()[1]) / took

    async def by_orm(self) -> float:
        """Write the first rows the usual way; return rows per second."""
        database = Database(self._audit.database_url, role=None, application_name="benchmark")
        rows = 0
        began = time.perf_counter()
        with _nowhere() as file:
            writer = csv.writer(file)
            async with AsyncSession(database.engine) as session:
                wanted = select(AuditLog).order_by(AuditLog.leaf_index).limit(ORM_ENTRIES)
                found = await session.stream_scalars(wanted.execution_options(yield_per=AT_ONCE))
                async for row in found:
                    writer.writerow(
                        (
                            *(row.id, row.user_id, row.action, row.resource_type),
                            *(row.resource_id, row.details, row.ip_address, row.user_agent),
                            row.created_at.isoformat(),
                        )
                    )
                    rows += 1
        took = time.perf_counter() - began
        await database.close()
        return rows / took

    async def growth(self) -> float:
        """Export everything; return by how many MiB the memory of the service grew at most."""
        self._audit.forget_peak()
        before = self._audit.resident_bytes()
        await self.export(pb.EXPORT_FORMAT_CSV_EXACT)
        return (self._audit.peak_bytes() - before) / MIB

    async def verify(self) -> float:
        """Verify the kept export offline; return lines per second, the start included."""
        file = self._directory / "export"
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.audit.verify", "export", str(file)),
            *("--manifest", str(self._directory / "manifest")),
            *("--key", str(self._audit.key_dir / "ledger.pub")),
            cwd=PROJECT,
            stdout=asyncio.subprocess.PIPE,
        )
        said, _none = await process.communicate()
        took = time.perf_counter() - began
        if process.returncode != 0:
            raise RuntimeError(f"the export was not found genuine: {said.decode()}")
        return int(said.split()[1].replace(b",", b"")) / took


def _nowhere() -> TextIO:
    return Path("/dev/null").open("w", newline="")


async def run(bench: Bench) -> Sequence[Figure]:
    """Measure."""
    rounds = min(bench.rounds, ROUNDS)
    async with bench.audit() as audit:
        await fill(audit, bench.size(ENTRIES))
        exporting = Exporting(audit, bench.directory)
        as_csv = partial(exporting.export, pb.EXPORT_FORMAT_CSV_EXACT)
        lines = partial(exporting.export, pb.EXPORT_FORMAT_NDJSON, "export")
        return [
            Figure(
                "export, CSV",
                "rows/s",
                await in_turns(as_csv, exporting.by_psql, rounds),
                "rows/s by psql \\copy",
                Promise(ratio_at_least=0.7),
            ),
            Figure(
                "export, CSV",
                "rows/s",
                await in_turns(as_csv, exporting.by_orm, rounds),
                "rows/s by ORM and csv",
                Promise(ratio_at_least=7),
            ),
            Figure(
                "export, memory of the service",
                "MiB more",
                await alone(exporting.growth, rounds),
                promise=Promise(at_most=64),
            ),
            Figure("export, NDJSON", "rows/s", await alone(lines, rounds)),
            Figure(
                "offline verification of NDJSON",
                "lines/s",
                await alone(exporting.verify, rounds),
                promise=Promise(at_least=20_000),
            ),
        ]
