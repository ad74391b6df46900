"""Every error of the product, declared once: a reason, a kind and the facts it carries.

The docstring of an error is the sentence its caller reads, with the facts filled in, its name is
the reason on the wire (`ErrorReason` in `common/v1/errors.proto`; a test keeps both equal).
Rules and operations raise these and know nothing of gRPC: `shared.rpc.status` maps kinds to codes.
"""

from shared.errors.calls import *
from shared.errors.catalog import *
from shared.errors.deployments import *
from shared.errors.ledger import *
