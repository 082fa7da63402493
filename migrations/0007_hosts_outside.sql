-- Hosts outside the cluster that consumes are about, each as it was decided.

create table session_hosts (
    org_id         uuid not null,
    session_id     uuid not null,
    host           text not null check (length(host) <= 253),
    port           integer not null check (port between 1 and 65535),
    allowed        boolean not null,
    -- It was allowed, and the session is no longer about it; a laptop may hold a grant that names it.
    taken_out      boolean not null default false,
    policies       text[] not null,
    policy_version bigint not null,
    decided_at     timestamptz not null,
    primary key (org_id, session_id, host, port),
    foreign key (org_id, session_id) references sessions (org_id, id) on delete cascade
);
