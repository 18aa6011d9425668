-- Events that a plugin subscribed to and its worker has not been told yet, in their order.

create table plugin_events (
    number integer primary key autoincrement,
    plugin_id text not null references plugins (id) on delete cascade, -- who gets it
    event text not null,
    created_at text not null
) strict;
create index plugin_events_by_plugin on plugin_events (plugin_id, number);
