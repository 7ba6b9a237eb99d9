"""API keys: made once, kept as hashes, checked, counted, ended."""

from __future__ import annotations

import re
import sys

import pytest

from sam_droplet.config import load_config
from sam_droplet.errors import AuthenticationError, InputError, NotFound
from sam_droplet.service.access import open_key_ring
from sam_droplet.service.store import Store


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    yield store
    store.close()


@pytest.fixture
def ring(store):
    return open_key_ring(load_config({}), store)


def test_a_key_is_shown_once_and_opens_under_its_own_name(ring):
    record, key = ring.create("Ada", rate_limit="5 per minute; 100 per day")
    assert re.fullmatch(r"sd_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", key)
    caller = ring.authenticate(key)
    assert (caller.owner, caller.key_id, caller.is_admin) == (f"key_{record.id}", record.id, False)
    assert caller.rate_limit == "5 per minute; 100 per day"
    assert key.split("_", 2)[2] not in repr(ring.list())


def test_no_two_keys_are_alike(ring):
    keys = {ring.create("x")[1] for _ in range(50)}
    assert len({key.split("_", 2)[1] for key in keys}) == len({key.split("_", 2)[2] for key in keys}) == 50


def test_scopes_say_who_is_an_administrator(ring):
    assert ring.authenticate(ring.create("root", scope="admin")[1]).is_admin
    with pytest.raises(InputError, match="user or admin"):
        ring.create("x", scope="god")


@pytest.mark.parametrize("values", [{"name": " "}, {"name": "n" * 101}, {"name": "x", "rate_limit": "often"}])
def test_a_key_that_makes_no_sense_is_refused(ring, values):
    with pytest.raises(InputError):
        ring.create(**values)
    assert ring.list() == []


def test_a_changed_secret_is_refused(ring):
    _, key = ring.create("Ada")
    for wrong in (key[:-1] + ("A" if key[-1] != "A" else "B"), key[:-1], key + "A", key.upper(), ""):
        with pytest.raises(AuthenticationError):
            ring.authenticate(wrong)


def test_the_ring_is_closed_from_the_first_key_on_for_ever(ring):
    assert not ring.any_exist()
    record, key = ring.create("Ada")
    assert ring.any_exist()
    assert ring.revoke(record.id).revoked_at is not None
    assert ring.revoke(record.id).revoked_at == ring.list()[0].revoked_at
    assert ring.any_exist()
    with pytest.raises(AuthenticationError, match="revoked"):
        ring.authenticate(key)
    with pytest.raises(NotFound, match="key list"):
        ring.revoke("000000000000")


def test_a_renewed_key_has_a_new_secret_and_the_same_owner(ring):
    record, old = ring.create("Ada", expires_in_s=-1)
    ring.revoke(record.id)
    renewed, new = ring.renew(record.id)
    assert (renewed.id, renewed.name) == (record.id, "Ada")
    assert ring.authenticate(new).owner == f"key_{record.id}"
    with pytest.raises(AuthenticationError):
        ring.authenticate(old)
    with pytest.raises(NotFound, match="key list"):
        ring.renew("000000000000")


def test_use_is_counted_and_survives_a_restart(store, ring):
    record, key = ring.create("Ada")
    for _ in range(3):
        ring.count_request(ring.authenticate(key))
    ring.flush_usage()
    (again,) = open_key_ring(load_config({}), store).list()
    assert (again.id, again.n_requests) == (record.id, 3)
    assert again.last_used_at is not None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit to the size of files")
def test_requests_go_on_where_use_cannot_be_written_and_count_later(store, ring):
    import resource

    record, key = ring.create("Ada")
    ring.count_request(ring.authenticate(key))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # as if the disk were full
    try:
        ring.flush_usage()  # as a request does every few seconds
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ring.list()[0].n_requests == 0
    ring.count_request(ring.authenticate(key))
    ring.flush_usage()
    assert [(r.id, r.n_requests) for r in ring.list()] == [(record.id, 2)]


def test_keys_of_the_settings_are_keys_too(store):
    config = load_config({}, {"api_keys": "one-long-key,another-key", "admin_key": "the-admins-key"})
    ring = open_key_ring(config, store)
    assert ring.any_exist()
    owners = {ring.authenticate(key).owner for key in ("one-long-key", "another-key", "the-admins-key")}
    assert len(owners) == 3
    assert ring.authenticate("the-admins-key").is_admin
    assert not ring.authenticate("one-long-key").is_admin
    assert "long" not in repr(ring.authenticate("one-long-key"))
