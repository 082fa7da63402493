-- Sign-ins of machines without a browser (RFC 8628): asked for by a machine, answered by somebody in a browser elsewhere.

create table device_codes (
    code_hash        bytea primary key check (length(code_hash) = 32),
    -- Of the few letters that somebody types.
    user_code_hash   bytea not null unique check (length(user_code_hash) = 32),
    key_jkt          text not null check (length(key_jkt) = 43),
    -- As the machine calls itself; nobody has checked it.
    device_name      text not null check (length(device_name) between 1 and 100),
    asked_from       text check (length(asked_from) <= 45),
    created_at       timestamptz not null,
    expires_at       timestamptz not null,
    -- It may ask again this long after the last time.
    interval_s       integer not null check (interval_s between 1 and 600),
    polled_at        timestamptz,
    answered_at      timestamptz,
    -- Whoever allowed it; null when it was denied.
    org_id           uuid,
    user_id          uuid,
    -- The family that the code began; set once.
    family_id        uuid,
    foreign key (org_id, user_id) references users (org_id, id) on delete cascade,
    foreign key (org_id, family_id) references token_families (org_id, id) on delete cascade,
    check ((org_id is null) = (user_id is null)),
    check (user_id is null or answered_at is not null)
);
create index device_codes_by_end on device_codes (expires_at);
create index device_codes_by_user on device_codes (org_id, user_id);
