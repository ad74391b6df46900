"""The whole table of advice: importing it enters every case."""

from tests.rpc.advice import callers, catalog, deployments, execution, gates, ledger
from tests.rpc.advice.elsewhere import ELSEWHERE
from tests.rpc.advice.scene import CASES

MODULES = (callers, catalog, deployments, execution, gates, ledger)

__all__ = ["CASES", "ELSEWHERE", "MODULES"]
