# SPDX-License-Identifier: Apache-2.0
"""A worker that cannot start: fault fixture of the server's tests."""

import sys

sys.exit("no module named torch, for example")
