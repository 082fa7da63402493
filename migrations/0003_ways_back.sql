-- What lets people out of a corner: a lost answer, a lost key, policies that shut everybody out.

-- The operator publishes too (`admin policies reset`), and is no user.
alter table policy_sets alter column published_by drop not null;

-- The token that followed this one. When its answer was lost, the laptop may ask again while it is unused.
alter table refresh_tokens add column successor_hash bytea check (length(successor_hash) = 32);

alter table token_families drop constraint token_families_end_reason_check;
alter table token_families add constraint token_families_end_reason_check
    check (end_reason in ('logout', 'reuse', 'device removed', 'user disabled', 'connection removed'));
create index token_families_live on token_families (org_id, user_id, key_jkt) where ended_at is null;
