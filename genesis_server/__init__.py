# SPDX-License-Identifier: Apache-2.0
"""Genesis: pictures of an object to a textured PBR mesh. Import the rooms you need; this module stays light."""

__version__ = "0.1.0"
