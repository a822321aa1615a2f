-- What exists: devices with their bindings, catalog items, divisions, and the edges of the three display trees.

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO mingjian_app;

CREATE TABLE devices (
    device_key        text PRIMARY KEY,
    gb_id             text NOT NULL,
    name              text NOT NULL CHECK (length(name) BETWEEN 1 AND 256),
    kind              text NOT NULL CHECK (kind IN ('ipc', 'nvr', 'platform', 'other')),
    media_transport   text CHECK (media_transport IN ('udp', 'tcp-passive')),
    credential        bytea,
    created_at        double precision NOT NULL,
    removed_at        double precision,
    online            boolean NOT NULL DEFAULT false,
    last_seen_at      double precision,
    transport         text,
    remote_host       text,
    remote_port       integer,
    local_host        text,
    local_port        integer,
    contact           text,
    call_id           text,
    registered_at     double precision,
    expires_at        double precision,
    manufacturer      text,
    model             text,
    firmware          text,
    info_channels     integer,
    info_name         text,
    catalog_synced_at double precision,
    catalog_complete  boolean,
    playable_count    integer NOT NULL DEFAULT 0
) WITH (fillfactor = 80);
-- A withdrawn device keeps its row (the ledger names its key) and frees its address code.
CREATE UNIQUE INDEX devices_gb_id ON devices (gb_id) WHERE removed_at IS NULL;
CREATE INDEX devices_name ON devices (name, device_key) WHERE removed_at IS NULL;
CREATE INDEX devices_online ON devices (device_key) WHERE online;

CREATE TABLE channels (
    channel_key   text PRIMARY KEY,
    device_key    text NOT NULL REFERENCES devices,
    gb_id         text NOT NULL,
    name          text NOT NULL,
    kind          text NOT NULL,
    playable      boolean NOT NULL,
    online        boolean NOT NULL,
    secrecy       boolean NOT NULL,
    parents       text[] NOT NULL,
    parental      boolean NOT NULL,
    civil_code    text,
    business_group text,
    manufacturer  text,
    model         text,
    ptz_type      text,
    longitude     double precision,
    latitude      double precision,
    attributes    jsonb NOT NULL,
    -- Every node of every tree above this item, itself and its device included: one test answers "is it under here?".
    ancestors     text[] NOT NULL,
    -- True for the channel that stands for a device without a catalog of its own (an IPC).
    own           boolean NOT NULL DEFAULT false,
    -- Of everything the device's catalogue decides about this row: what has not changed is not written again.
    -- Empty when the row was changed otherwise since.
    digest        bytea NOT NULL,
    first_seen_at double precision NOT NULL,
    changed_at    double precision NOT NULL,
    removed_at    double precision,
    UNIQUE (device_key, gb_id)
);
CREATE INDEX channels_order ON channels (name, channel_key) WHERE removed_at IS NULL;
CREATE INDEX channels_ancestors ON channels USING gin (ancestors) WHERE removed_at IS NULL;

CREATE TABLE divisions (
    division_key text PRIMARY KEY,
    code         text NOT NULL UNIQUE CHECK (code ~ '^([0-9]{2}){1,4}$'),
    parent_key   text REFERENCES divisions,
    name         text NOT NULL,
    named        boolean NOT NULL DEFAULT false
);
CREATE INDEX divisions_parent ON divisions (parent_key);

CREATE TABLE tree_edges (
    mode       "char" NOT NULL CHECK (mode IN ('d', 'g', 'p')),
    parent_key text NOT NULL,
    child_key  text NOT NULL,
    PRIMARY KEY (mode, parent_key, child_key)
);
CREATE INDEX tree_edges_child ON tree_edges (child_key);

GRANT SELECT, INSERT, UPDATE ON devices, channels, divisions TO mingjian_app;
GRANT SELECT, INSERT, DELETE ON tree_edges TO mingjian_app;
