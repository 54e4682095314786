# SPDX-License-Identifier: Apache-2.0
"""What both sides of the wire speak. Standard library only: Blender imports this room."""

PROTOCOL_VERSION = 3  # of the messages; client and server must have the same
