-- Teamspaces, what their clusters report, the sessions in them, policies, and the audit log.

create table teamspaces (
    org_id        uuid not null references organizations (id) on delete cascade,
    id            uuid not null,
    name          text not null check (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    created_at    timestamptz not null,
    -- The self-signed certificate of the teamspace key, DER; made in the cluster, here since its enrolment.
    certificate   bytea,
    -- SHA-256 over the key's SubjectPublicKeyInfo: what laptops pin.
    key_thumbprint bytea check (length(key_thumbprint) = 32),
    -- UID of the kube-system namespace: tells one cluster from another.
    cluster_uid   text check (length(cluster_uid) between 1 and 200),
    enrolled_at   timestamptz,
    locked_at     timestamptz,
    lock_reason   text,
    primary key (org_id, id),
    constraint teamspaces_name unique (org_id, name),
    check (num_nonnulls(certificate, key_thumbprint, cluster_uid, enrolled_at) in (0, 4)),
    check ((locked_at is null) = (lock_reason is null))
);
-- A key belongs to one teamspace on this hub, whichever organization it is in.
create unique index teamspaces_by_key on teamspaces (key_thumbprint);

alter table role_bindings
    add foreign key (org_id, teamspace_id) references teamspaces (org_id, id) on delete cascade;

create table join_tokens (
    token_hash   bytea primary key check (length(token_hash) = 32),
    org_id       uuid not null,
    id           uuid not null,
    teamspace_id uuid not null,
    created_by   uuid not null,
    created_at   timestamptz not null,
    expires_at   timestamptz not null,
    used_at      timestamptz,
    unique (org_id, id),
    foreign key (org_id, teamspace_id) references teamspaces (org_id, id) on delete cascade,
    foreign key (org_id, created_by) references users (org_id, id)
);
create index join_tokens_by_teamspace on join_tokens (org_id, teamspace_id);

-- Agent replicas and whether their link is up. Written on change only.
create table replicas (
    org_id          uuid not null,
    teamspace_id    uuid not null,
    -- The pod's name.
    name            text not null check (length(name) between 1 and 253),
    version         text not null check (length(version) <= 100),
    connected_at    timestamptz not null,
    disconnected_at timestamptz,
    primary key (org_id, teamspace_id, name),
    foreign key (org_id, teamspace_id) references teamspaces (org_id, id) on delete cascade
);

-- The catalogue, as the cluster's agent reports it.
create table services (
    org_id            uuid not null,
    teamspace_id      uuid not null,
    namespace         text not null,
    name              text not null,
    type              text not null,
    -- [{name, port, protocol, target_port, app_protocol}]
    ports             jsonb not null,
    -- "Deployment/cart"
    workload          text,
    ready_endpoints   integer not null check (ready_endpoints >= 0),
    labels            jsonb not null,
    intercept_refusal text,
    primary key (org_id, teamspace_id, namespace, name),
    foreign key (org_id, teamspace_id) references teamspaces (org_id, id) on delete cascade
);

-- One consume or one intercept: what should be, until it ends; and what is seen of it.
create table sessions (
    org_id       uuid not null,
    id           uuid not null,
    kind         text not null check (kind in ('consume', 'intercept')),
    teamspace_id uuid not null,
    user_id      uuid not null,
    device_id    uuid not null,
    -- Consumes: the words that were asked for.
    patterns     text[],
    -- Intercepts: the service, and [{service_port, laptop_port}].
    namespace    text,
    name         text,
    ports        jsonb,
    grace_s      integer check (grace_s between 0 and 300),
    -- Where the request came from: decisions are repeated with it while the session lives.
    begun_from   text,
    phase        text not null check (phase in ('preparing', 'active', 'away', 'contested', 'refused', 'ended')),
    detail       text check (length(detail) <= 2000),
    created_at   timestamptz not null,
    renewed_at   timestamptz not null,
    ended_at     timestamptz,
    end_reason   text,
    -- "left" by whoever began it, "decided" by somebody or something else, "seen" to be over.
    end_cause    text check (end_cause in ('left', 'decided', 'seen')),
    primary key (org_id, id),
    foreign key (org_id, teamspace_id) references teamspaces (org_id, id) on delete cascade,
    foreign key (org_id, user_id) references users (org_id, id),
    foreign key (org_id, device_id) references devices (org_id, id),
    check ((kind = 'consume') = (patterns is not null)),
    check (num_nonnulls(namespace, name, ports, grace_s) = case kind when 'intercept' then 4 else 0 end),
    check (num_nonnulls(ended_at, end_reason, end_cause) in (0, 3))
);
create index sessions_live on sessions (org_id, teamspace_id) where ended_at is null;
create index sessions_by_device on sessions (org_id, device_id) where ended_at is null;
-- Two developers cannot both have all of a service's requests.
create unique index sessions_one_intercept on sessions (org_id, teamspace_id, namespace, name)
    where kind = 'intercept' and ended_at is null;

-- What was decided for each service of a session, at its beginning and each time it was decided again.
create table session_services (
    org_id         uuid not null,
    session_id     uuid not null,
    namespace      text not null,
    name           text not null,
    ports          integer[] not null,
    allowed        boolean not null,
    policies       text[] not null,
    policy_version bigint not null,
    decided_at     timestamptz not null,
    primary key (org_id, session_id, namespace, name),
    foreign key (org_id, session_id) references sessions (org_id, id) on delete cascade
);

-- The organization's own policies, one row per published version; the built-in ones are part of the program.
create table policy_sets (
    org_id       uuid not null references organizations (id) on delete cascade,
    version      bigint not null check (version > 0),
    -- [{id, label, text}]
    texts        jsonb not null,
    published_at timestamptz not null,
    published_by uuid not null,
    primary key (org_id, version),
    foreign key (org_id, published_by) references users (org_id, id)
);

-- The last link of each organization's audit chain. Locked by whoever appends, so that the chain has no forks.
create table audit_heads (
    org_id uuid primary key references organizations (id) on delete cascade,
    seq    bigint not null,
    hash   bytea not null check (length(hash) = 32)
);

-- Written in the transaction of what it records, never changed. `hash` covers every other column and the hash before.
create table audit (
    org_id         uuid not null references organizations (id) on delete cascade,
    seq            bigint not null check (seq > 0),
    at             timestamptz not null,
    -- "user", "hub", "agent" or "operator".
    actor_kind     text not null,
    actor          text not null,
    -- The roles the actor held at that time.
    roles          text[] not null,
    action         text not null,
    subject        text not null,
    -- JSON as text: the hash is over its bytes.
    detail         text not null,
    policy_version bigint,
    policies       text[] not null,
    hash           bytea not null check (length(hash) = 32),
    primary key (org_id, seq)
);
