"""What a job file must not hold, as it is copied into the run directory and into logs.

Options of storage clients go by a list of what is allowed, for nobody knows all the names that
secrets have. Addresses may have neither a user nor a signature. What is refused is told by its
name, never by its value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from dawin_ray.errors import UserError

ENVIRONMENT = (
    "Give it by the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE) or the "
    "machine's role"
)

# What every file system of fsspec takes, and no secret can hide in.
_GENERIC = dict.fromkeys(
    ("auto_mkdir", "block_size", "cache_type", "default_block_size", "default_cache_type",
     "default_fill_cache", "max_concurrency", "skip_instance_cache", "timeout",
     "use_listings_cache", "listings_expiry_time")
)  # fmt: skip

_S3 = dict.fromkeys(
    ("anon", "endpoint_url", "fixed_upload_size", "max_paths", "profile", "requester_pays",
     "use_ssl", "version_aware")
) | {
    "client_kwargs": dict.fromkeys(
        ("api_version", "endpoint_url", "region_name", "use_ssl", "verify")
    ),
    "config_kwargs": dict.fromkeys(
        ("connect_timeout", "max_pool_connections", "read_timeout", "region_name",
         "request_checksum_calculation", "response_checksum_validation", "signature_version",
         "tcp_keepalive", "use_dualstack_endpoint", "user_agent_extra")
    ) | {
        "retries": dict.fromkeys(("max_attempts", "mode", "total_max_attempts")),
        "s3": dict.fromkeys(
            ("addressing_style", "payload_signing_enabled", "use_accelerate_endpoint",
             "use_dualstack_endpoint", "us_east_1_regional_endpoint")
        ),
    },
}  # fmt: skip

_GCS = dict.fromkeys(
    ("access", "check_connection", "consistency", "default_location", "endpoint_url", "project",
     "requester_pays", "version_aware")
)  # fmt: skip

_ABFS = dict.fromkeys(("account_host", "account_name", "anon", "location_mode", "version_aware"))

_HTTP = dict.fromkeys(("encoded", "same_scheme", "simple_links", "size_policy"))

# By protocol: an option's name and None, or what may stand in it.
ALLOWED: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("s3", "s3a"), _S3),
    **dict.fromkeys(("gs", "gcs"), _GCS),
    **dict.fromkeys(("abfs", "abfss", "az", "adl", "azure"), _ABFS),
    **dict.fromkeys(("http", "https"), _HTTP),
    **dict.fromkeys(("hdfs", "webhdfs"), dict.fromkeys(("host", "port"))),
    **dict.fromkeys(("sftp", "ssh", "ftp", "smb"), dict.fromkeys(("host", "port"))),
}

# Of those that are refused, the ones that are called a credential and not only unknown.
_SECRET_NAME = re.compile(
    r"secret|token|passw|pwd|cred|auth|cookie|connection_string|proxy|proxies|header|sign|"
    r"(api|account|access|private|shared|p)_?key|(^|_)(key|pat|pem|user|username|sas)($|_)|kerb",
    re.IGNORECASE,
)

# Parameters of an address that say which object is meant, and nothing else.
_HARMLESS = {"version", "versionid", "generation", "snapshot", "revision", "raw", "download"}

# Their container comes before the host, as in abfs://container@account.dfs.core.windows.net.
_WITH_CONTAINER = {"abfs", "abfss", "az", "adl", "azure", "wasb", "wasbs"}

_PARAMETER = re.compile(r"[?&;#]([^?&;#=/]*)=([^?&;#]*)")


def check_no_secrets(options: Mapping[str, Any], where: str = "storage_options") -> None:
    """Refuse what is not on the list of a protocol's options.

    Raises:
        ValueError: naming the option, never its value, and what is allowed.
    """
    for protocol, values in options.items():
        if not isinstance(values, Mapping):
            raise ValueError(f"{where}.{protocol}: expected options by name")
        allowed = _GENERIC | ALLOWED.get(str(protocol).lower(), {})
        _check_options(values, allowed, f"{where}.{protocol}")


def _check_options(values: Mapping[str, Any], allowed: Mapping[str, Any], where: str) -> None:
    for name, value in values.items():
        at = f"{where}.{name}" if _SAFE_NAME.fullmatch(str(name)) else f"{where}: an option there"
        inner = allowed.get(name) if isinstance(name, str) else None
        if name not in allowed:
            kind = (
                "is a credential, which a job file must not hold"
                if _SECRET_NAME.search(str(name)) or _holds_secret(value)
                else "is none of the options that a job file may hold, as any other could be a "
                "credential"
            )
            raise ValueError(
                f"{at} {kind}. {ENVIRONMENT}. Allowed here: {', '.join(sorted(allowed))}"
            )
        if isinstance(value, Mapping) and inner is not None:
            _check_options(value, inner, at)
        elif isinstance(value, Mapping | list | tuple | set) or inner is not None:
            if value or inner is None:
                expected = f"options ({', '.join(sorted(inner))})" if inner else "one value"
                raise ValueError(f"{at}: expected {expected}, got a {type(value).__name__}")
        elif isinstance(value, str) and _fault(value) is not None:
            raise ValueError(
                f"{at} is a credential, or has one in its address, which a job file must not hold. "
                f"{ENVIRONMENT}"
            )


_SAFE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,60}")


def _holds_secret(value: Any) -> bool:
    """Whether any text in it is an address with a credential."""
    return any(_fault(text) is not None for _, text in texts_of(value))


def texts_of(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """All texts in nested mappings and lists, keys too, with dotted names of where they are."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str):
                yield where, key
            yield from texts_of(item, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple | set):
        for index, item in enumerate(value):
            yield from texts_of(item, f"{where}.{index}" if where else str(index))
    elif isinstance(value, str):
        yield where, value


def check_address(address: str, what: str) -> None:
    """Refuse an address that holds a credential, in any link of a chain such as `zip::https://`.

    Raises:
        UserError: naming what it is the address of and what is wrong with it, never the address.
    """
    if (fault := _fault(address)) is not None:
        raise UserError(
            f"The {what} {_scheme(address)}://... holds credentials ({fault}), or may do so; they "
            "would end in logs and files. Give them by the environment, and a plain address."
        )


def check_job(values: Any, origin: str) -> None:
    """Refuse a job with an address that holds a credential, whatever key it stands under.

    Raises:
        UserError: naming the key, never the value.
    """
    for where, text in texts_of(values):
        fault = _fault(text)
        if fault is not None and not where.startswith("storage_options"):  # has its own check
            raise UserError(
                f"The job file {origin!r} is wrong:\n  {where or 'job'}: the address holds "
                f"credentials ({fault}), or may do so, and a job file is copied into its run "
                "directory. Give them by the environment, and a plain address."
            )


def without_secrets(text: str) -> str:
    """A text as it is, or where it has an address with a credential, words in its place."""
    return text if _fault(text) is None else f"{_scheme(text)}://... (not shown)"


def _scheme(address: str) -> str:
    found = re.search(r"([A-Za-z][A-Za-z0-9+.-]*)://", address)
    return found.group(1).lower() if found else "address"


def _fault(address: str) -> str | None:
    """Which part of an address may be a credential, in words; None where there is none."""
    for link in address.split("::"):
        scheme, separator, rest = link.partition("://")
        scheme = re.sub(r".*[^a-z0-9+.-]", "", scheme.lower())
        if not separator:
            continue
        authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
        user, at, _ = authority.rpartition("@")
        if at and (scheme not in _WITH_CONTAINER or ":" in user):
            return "a user before the host"
        tail = re.search(r"[?#].*", rest, re.DOTALL)
        for name, value in _PARAMETER.findall(tail.group() if tail else ""):
            if unquote(name).strip().lower() not in _HARMLESS or _fault(unquote(value)):
                shown = unquote(name)
                named = f"'{shown}'" if _SAFE_NAME.fullmatch(shown) else "of another name"
                return f"a parameter {named}"
        if scheme in ("http", "https"):
            query = rest.partition("?")[2].partition("#")[0]
            if any(part and "=" not in part for part in re.split(r"[&;]", query)):
                return "a parameter without a name"
    return None
