-- The names by which headless services have their pods, and ports of UDP beside those of TCP.

alter table services
    -- "db-0" of service db: what is reached as db-0.db.
    add column pods text[] not null default '{}';

alter table session_services
    add column udp_ports integer[] not null default '{}',
    -- As the laptop was last told them. Covered by their service: nothing is decided about one pod.
    add column pods text[] not null default '{}';
