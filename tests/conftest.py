"""Makes the helper modules of this folder (``training_world`` and others) importable from every test.

Ray reads its mode of authentication once, when it is first imported: every test runs with tokens, and
the tests of clusters without them say so to the processes that they start.
"""

import os

os.environ.setdefault("RAY_AUTH_MODE", "token")
