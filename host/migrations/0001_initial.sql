-- Tables in the shape of Paperclip's own, with what a host without Paperclip needs beside it.
-- Times are RFC 3339 text in UTC with milliseconds; JSON is kept as the text it was written with.

create table plugins (
    id text primary key, -- UID of the PaperclipPlugin
    namespace text not null,
    name text not null,
    plugin_key text not null,
    version text not null,
    api_version integer not null default 1,
    manifest_json text not null,
    config_json text not null default '{}',
    artifact_digest text not null,
    activation integer not null,
    served_at text, -- when a pod of it served for the first time
    installed_at text not null,
    updated_at text not null
) strict;
create index plugins_by_key on plugins (plugin_key);
create index plugins_by_name on plugins (namespace, name);

create table plugin_state (
    id text primary key,
    plugin_id text not null references plugins (id) on delete cascade,
    scope_kind text not null,
    scope_id text,
    namespace text not null default 'default',
    state_key text not null,
    value_json text not null,
    updated_at text not null
) strict;
create unique index plugin_state_by_key
    on plugin_state (plugin_id, scope_kind, coalesce(scope_id, ''), namespace, state_key);

create table plugin_entities (
    id text primary key,
    plugin_id text not null references plugins (id) on delete cascade,
    company_id text,
    entity_type text not null,
    scope_kind text not null,
    scope_id text,
    external_id text,
    title text,
    status text,
    data text not null default '{}',
    created_at text not null,
    updated_at text not null
) strict;
create unique index plugin_entities_by_external_id
    on plugin_entities (plugin_id, entity_type, external_id) where external_id is not null;
create index plugin_entities_by_type on plugin_entities (plugin_id, entity_type, created_at);

create table plugin_jobs (
    id text primary key,
    plugin_id text not null references plugins (id) on delete cascade,
    job_key text not null,
    schedule text not null default '',
    status text not null default 'active',
    last_run_at text,
    next_run_at text,
    created_at text not null,
    updated_at text not null,
    unique (plugin_id, job_key)
) strict;
create index plugin_jobs_due on plugin_jobs (next_run_at) where status = 'active' and next_run_at is not null;

create table plugin_job_runs (
    id text primary key,
    job_id text not null references plugin_jobs (id) on delete cascade,
    plugin_id text not null references plugins (id) on delete cascade,
    company_id text,
    trigger text not null,
    scheduled_at text not null,
    status text not null default 'pending',
    duration_ms integer,
    error text,
    logs text not null default '[]',
    started_at text,
    finished_at text,
    created_at text not null
) strict;
-- A slot of the schedule is claimed by inserting its run, so it runs once.
create unique index plugin_job_runs_claim on plugin_job_runs (job_id, scheduled_at) where trigger = 'schedule';
-- A job runs once at a time.
create unique index plugin_job_runs_open on plugin_job_runs (job_id) where status in ('pending', 'queued', 'running');
create index plugin_job_runs_by_job on plugin_job_runs (job_id, created_at);
create index plugin_job_runs_by_plugin on plugin_job_runs (plugin_id, created_at);

create table plugin_webhook_deliveries (
    id text primary key,
    plugin_id text not null references plugins (id) on delete cascade,
    company_id text,
    webhook_key text not null,
    external_id text,
    status text not null default 'pending',
    duration_ms integer,
    error text,
    payload text not null,
    headers text not null default '{}',
    started_at text,
    finished_at text,
    created_at text not null
) strict;
create index plugin_webhook_deliveries_by_plugin on plugin_webhook_deliveries (plugin_id, created_at);

create table plugin_logs (
    id text primary key,
    plugin_id text not null references plugins (id) on delete cascade,
    company_id text,
    level text not null default 'info',
    message text not null,
    meta text,
    created_at text not null
) strict;
create index plugin_logs_by_plugin on plugin_logs (plugin_id, created_at);
