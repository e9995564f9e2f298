"""How Airflow hides secrets: by their values, which are masked in whatever a process logs, and by the names of fields."""

from __future__ import annotations

# `airflow.sdk.log` has a public name for masking a value, and none for applying the mask.
from airflow.sdk._shared.secrets_masker import redact
from airflow.sdk.log import mask_secret

__all__ = ["mask_secret", "redact"]
