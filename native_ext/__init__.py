# SPDX-License-Identifier: Apache-2.0
"""Kernels and nothing but kernels: tensors in, tensors out; each op is a torch reference plus faster versions."""
