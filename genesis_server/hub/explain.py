# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between here and the Hub, as errors with a remedy."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any

from genesis_server.hub.catalog import Repository
from genesis_server.hub.locate import ENCODER_VARIABLE, missing
from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy


@contextmanager
def explained(repository: Repository, path: str) -> Iterator[None]:
    """Turn what the Hub's client raises into errors with a remedy."""
    from huggingface_hub import errors

    what = f"{repository.id}/{path}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise _gated(repository) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        if repository.gated:  # without a token the Hub hides some gated repositories altogether
            raise _gated(repository) from error
        raise missing(repository.id, path, None) from error
    except errors.LocalEntryNotFoundError as error:
        raise _offline(what, error) from error
    except errors.EntryNotFoundError as error:
        raise GenesisError(
            ErrorCode.MODEL_MISSING,
            f"{what} does not exist at revision {repository.revision[:12]}.",
            "Check the model id; it must be a repository in the published layout.",
        ) from error
    except errors.HfHubHTTPError as error:
        if getattr(error.response, "status_code", 0) in (401, 403):
            raise _gated(repository) from error
        raise _offline(what, error) from error
    except (OSError, EOFError, HTTPException) as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise GenesisError(
                ErrorCode.DISK_FULL, f"The disk filled up while downloading {what}.", "Free some space; it continues there."
            ) from error
        if isinstance(error, PermissionError) or getattr(error, "errno", None) == errno.EROFS:
            raise GenesisError(
                ErrorCode.NO_PERMISSION,
                f"{error.filename or 'The download folder'} may not be written, so {what} cannot be kept.",
                "Make it yours, or set HF_HOME to a folder that is.",
            ) from error
        raise _offline(what, error) from error
    except Exception as error:
        if _is_transport(error):
            raise _offline(what, error) from error
        raise


def _is_transport(error: Exception) -> bool:
    """Connection errors of requests (huggingface_hub 0.x), httpx (1.x) or httpx2 (2.x), none of which is imported here."""
    return type(error).__module__.startswith(("requests", "httpx", "urllib3", "httpcore"))


def _gated(repository: Repository) -> GenesisError:
    return GenesisError(
        ErrorCode.GATED_MODEL,
        f"{repository.id} is only given to accounts that accepted its licence ({repository.licence}).",
        f"Open https://huggingface.co/{repository.id}, accept the licence, then run: hf auth login; "
        "in Blender, set your Hub Token in the preferences. "
        f"A local copy can be given instead: set {ENCODER_VARIABLE} to its folder.",
    )


def _offline(what: str, error: Any) -> GenesisError:
    return GenesisError(
        ErrorCode.OFFLINE,
        f"{what} is not here and cannot be fetched: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
        "Check the network and HF_HUB_OFFLINE, then try again; what has arrived is kept.",
        Remedy.RETRY,
    )
