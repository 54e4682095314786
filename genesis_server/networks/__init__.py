# SPDX-License-Identifier: Apache-2.0
"""The neural networks, one noun per file; they are built and loaded through `registry`."""
