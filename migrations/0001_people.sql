-- Organizations, the people in them, and how they prove who they are.

create table organizations (
    id          uuid primary key,
    slug        text not null unique check (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    name        text not null check (length(name) between 1 and 200),
    -- Whoever first signs in with this verified address becomes owner; null once that happened.
    owner_email text check (length(owner_email) <= 320),
    created_at  timestamptz not null
);

-- The private halves are sealed under the master key; the aad names organization and purpose.
create table organization_keys (
    org_id          uuid not null references organizations (id) on delete cascade,
    purpose         text not null check (purpose in ('authority', 'grants')),
    -- PEM: the certificate of the authority, the public key of the grants.
    public_pem      text not null,
    sealed_private  bytea not null,
    created_at      timestamptz not null,
    primary key (org_id, purpose)
);

create table oidc_connections (
    org_id               uuid not null references organizations (id) on delete cascade,
    id                   uuid not null,
    issuer               text not null check (length(issuer) <= 2000),
    client_id            text not null check (length(client_id) <= 500),
    sealed_client_secret bytea not null,
    groups_claim         text not null check (length(groups_claim) between 1 and 200),
    scopes               text[] not null,
    -- Addresses of these domains count as verified, and lead to this connection at sign-in. Lower case.
    email_domains        text[] not null,
    created_at           timestamptz not null,
    primary key (org_id, id)
);
create index oidc_connections_by_domain on oidc_connections using gin (email_domains);

create table users (
    org_id            uuid not null references organizations (id) on delete cascade,
    id                uuid not null,
    -- Null for an owner made by `admin recover` who has not signed in through an issuer yet.
    connection_id     uuid,
    subject           text check (length(subject) <= 500),
    email             text not null check (email = lower(email) and length(email) <= 320),
    name              text not null check (length(name) <= 300),
    created_at        timestamptz not null,
    last_signed_in_at timestamptz,
    disabled_at       timestamptz,
    primary key (org_id, id),
    unique (org_id, connection_id, subject),
    foreign key (org_id, connection_id) references oidc_connections (org_id, id),
    check ((connection_id is null) = (subject is null))
);
create index users_by_email on users (org_id, email);

create table groups (
    org_id     uuid not null references organizations (id) on delete cascade,
    id         uuid not null,
    name       text not null check (length(name) between 1 and 500),
    created_at timestamptz not null,
    primary key (org_id, id),
    unique (org_id, name)
);

create table group_members (
    org_id   uuid not null,
    group_id uuid not null,
    user_id  uuid not null,
    primary key (org_id, group_id, user_id),
    foreign key (org_id, group_id) references groups (org_id, id) on delete cascade,
    foreign key (org_id, user_id) references users (org_id, id) on delete cascade
);
create index group_members_by_user on group_members (org_id, user_id);

-- A role is held by a user or by a group; without a teamspace it holds in the whole organization.
create table role_bindings (
    org_id       uuid not null references organizations (id) on delete cascade,
    id           uuid not null,
    role         text not null check (role in ('owner', 'admin', 'auditor', 'developer', 'viewer')),
    user_id      uuid,
    group_id     uuid,
    teamspace_id uuid,
    created_at   timestamptz not null,
    primary key (org_id, id),
    foreign key (org_id, user_id) references users (org_id, id) on delete cascade,
    foreign key (org_id, group_id) references groups (org_id, id) on delete cascade,
    check (num_nonnulls(user_id, group_id) = 1),
    unique nulls not distinct (org_id, role, user_id, group_id, teamspace_id)
);

-- A browser between /login and /login/callback. Found by the hash of the `state` parameter.
create table login_attempts (
    state_hash    bytea primary key check (length(state_hash) = 32),
    org_id        uuid not null,
    connection_id uuid not null,
    -- The browser must bring the cookie whose hash this is: a callback in another browser is refused.
    browser_hash  bytea not null check (length(browser_hash) = 32),
    nonce         text not null,
    pkce_verifier text not null,
    return_to     text not null check (length(return_to) <= 4000),
    expires_at    timestamptz not null,
    foreign key (org_id, connection_id) references oidc_connections (org_id, id) on delete cascade
);
create index login_attempts_by_end on login_attempts (expires_at);

create table web_sessions (
    token_hash   bytea primary key check (length(token_hash) = 32),
    org_id       uuid not null,
    user_id      uuid not null,
    created_at   timestamptz not null,
    last_seen_at timestamptz not null,
    expires_at   timestamptz not null,
    foreign key (org_id, user_id) references users (org_id, id) on delete cascade
);
create index web_sessions_by_user on web_sessions (org_id, user_id);
create index web_sessions_by_end on web_sessions (expires_at);

-- OAuth for our own command line. A family is one sign-in on one laptop: its refresh tokens follow each other,
-- and the reuse of a spent code or token ends all of it.
create table token_families (
    org_id       uuid not null,
    id           uuid not null,
    user_id      uuid not null,
    -- RFC 7638 thumbprint of the device key that every token request must prove to hold.
    key_jkt      text not null check (length(key_jkt) = 43),
    created_at   timestamptz not null,
    last_used_at timestamptz not null,
    ended_at     timestamptz,
    end_reason   text check (end_reason in ('logout', 'reuse', 'device removed', 'user disabled')),
    primary key (org_id, id),
    foreign key (org_id, user_id) references users (org_id, id) on delete cascade,
    check ((ended_at is null) = (end_reason is null))
);
create index token_families_by_user on token_families (org_id, user_id);

create table authorization_codes (
    code_hash      bytea primary key check (length(code_hash) = 32),
    org_id         uuid not null,
    user_id        uuid not null,
    redirect_uri   text not null check (length(redirect_uri) <= 500),
    code_challenge text not null check (length(code_challenge) = 43),
    key_jkt        text not null check (length(key_jkt) = 43),
    expires_at     timestamptz not null,
    -- The family that the code began; set once, so a second use knows what to end.
    family_id      uuid,
    foreign key (org_id, user_id) references users (org_id, id) on delete cascade,
    foreign key (org_id, family_id) references token_families (org_id, id) on delete cascade
);
create index authorization_codes_by_end on authorization_codes (expires_at);

create table refresh_tokens (
    token_hash bytea primary key check (length(token_hash) = 32),
    org_id     uuid not null,
    family_id  uuid not null,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    used_at    timestamptz,
    foreign key (org_id, family_id) references token_families (org_id, id) on delete cascade
);
create index refresh_tokens_by_family on refresh_tokens (org_id, family_id);
create index refresh_tokens_by_end on refresh_tokens (expires_at);

create table access_tokens (
    token_hash bytea primary key check (length(token_hash) = 32),
    org_id     uuid not null,
    family_id  uuid not null,
    expires_at timestamptz not null,
    foreign key (org_id, family_id) references token_families (org_id, id) on delete cascade
);
create index access_tokens_by_family on access_tokens (org_id, family_id);
create index access_tokens_by_end on access_tokens (expires_at);

-- One user's key on one laptop.
create table devices (
    org_id                 uuid not null,
    id                     uuid not null,
    user_id                uuid not null,
    name                   text not null check (length(name) between 1 and 100),
    -- SHA-256 over the SubjectPublicKeyInfo; and the same key as RFC 7638 names it, which ties it to its tokens.
    thumbprint             bytea not null check (length(thumbprint) = 32),
    key_jkt                text not null check (length(key_jkt) = 43),
    created_at             timestamptz not null,
    certificate_expires_at timestamptz not null,
    removed_at             timestamptz,
    primary key (org_id, id),
    foreign key (org_id, user_id) references users (org_id, id) on delete cascade
);
create unique index devices_by_key on devices (org_id, thumbprint) where removed_at is null;
create index devices_by_user on devices (org_id, user_id);

-- One-time links of the operator: `setup` creates an organization, `recover` signs in one of its owners.
create table setup_links (
    token_hash bytea primary key check (length(token_hash) = 32),
    org_id     uuid,
    user_id    uuid,
    expires_at timestamptz not null,
    used_at    timestamptz,
    foreign key (org_id, user_id) references users (org_id, id) on delete cascade,
    check ((org_id is null) = (user_id is null))
);
