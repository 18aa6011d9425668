-- Which pod a log entry came from. Entries of earlier releases do not say.

alter table plugin_logs add column pod text;
