-- Programs that sign in with a token instead of a browser.

-- A service account has an id like everybody who owns a session, a device or a role; its name stands where an address would.
alter table users add column is_service boolean not null default false;
alter table users add constraint users_service_has_no_issuer
    check (not is_service or (connection_id is null and email ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'));
create unique index service_accounts_by_name on users (org_id, email) where is_service and disabled_at is null;

create table api_tokens (
    token_hash   bytea primary key check (length(token_hash) = 32),
    org_id       uuid not null,
    id           uuid not null,
    user_id      uuid not null,
    -- What it is for.
    name         text not null check (length(name) between 1 and 100),
    created_by   uuid not null,
    created_at   timestamptz not null,
    expires_at   timestamptz not null,
    last_used_at timestamptz,
    revoked_at   timestamptz,
    unique (org_id, id),
    foreign key (org_id, user_id) references users (org_id, id) on delete cascade,
    foreign key (org_id, created_by) references users (org_id, id) on delete cascade
);
create index api_tokens_by_user on api_tokens (org_id, user_id);

-- What a token began ends with it.
alter table token_families add column api_token_id uuid;
alter table token_families add foreign key (org_id, api_token_id) references api_tokens (org_id, id) on delete cascade;
create index token_families_by_api_token on token_families (org_id, api_token_id) where api_token_id is not null;
alter table token_families drop constraint token_families_end_reason_check;
alter table token_families add constraint token_families_end_reason_check check (end_reason in
    ('logout', 'reuse', 'device removed', 'user disabled', 'connection removed', 'token revoked', 'token expired'));
