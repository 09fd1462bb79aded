"""What the checks of a running container tell of its settings."""

from __future__ import annotations

from typing import Any

import pytest

from p8fs_cluster import ConfigurationError, Container, validate_configuration
from p8fs_cluster.health.checks import steps


def test_a_failed_reload_is_a_fault_until_one_succeeds(
    rocksdb_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Container(config=rocksdb_settings) as container:
        assert all(step.ok for step in steps(container.config, container.storage()))
        monkeypatch.setenv("P8FS_PG_PORT", "no number")
        with pytest.raises(ConfigurationError):
            container.config.reload()
        told, *others = steps(container.config, container.storage())
        assert (told.name, told.ok) == ("load the settings again", False)
        assert "the last good settings stay in force" in str(told.fault)
        assert "P8FS_PG_PORT (from the environment)" in str(told.fault)
        assert all(step.ok for step in others), "the last good settings do work"
        with pytest.raises(ConfigurationError, match="the last reload failed"):
            validate_configuration(container)
        monkeypatch.delenv("P8FS_PG_PORT")
        container.config.reload()
        validate_configuration(container)


def test_words_of_others_on_a_failed_reload_are_not_told(rocksdb_settings: dict[str, Any]) -> None:
    with Container(config=rocksdb_settings) as container:
        container.config._base.fault = ValueError("hunter2")
        told = next(iter(steps(container.config, container.storage())))
        assert str(told.fault).endswith("stay in force: ValueError")
