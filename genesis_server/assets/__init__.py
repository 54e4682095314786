# SPDX-License-Identifier: Apache-2.0
"""The asset folder: what a generation was asked for and what each of its stages produced. Loads without torch."""

from genesis_server.assets.asset import Asset, StageRecord

__all__ = ["Asset", "StageRecord"]
