-- What devices are asked to do and tell by themselves: settings, alarms, positions, snapshots, upgrades; may_control.

ALTER TABLE users ADD COLUMN may_control boolean NOT NULL DEFAULT false;

-- Quirk switches (chosen by an operator, detected), heartbeat the device was told, subscriptions wanted.
CREATE TABLE device_settings (
    device_key         text PRIMARY KEY REFERENCES devices,
    chosen             jsonb NOT NULL DEFAULT '{}',
    detected           jsonb NOT NULL DEFAULT '{}',
    heartbeat_interval integer,
    heartbeat_count    integer
);
CREATE TABLE device_subscriptions (
    device_key text NOT NULL REFERENCES devices,
    kind       text NOT NULL CHECK (kind IN ('catalog', 'alarm', 'position', 'ptz')),
    expires    integer NOT NULL CHECK (expires BETWEEN 30 AND 864000),
    pause      integer NOT NULL CHECK (pause BETWEEN 1 AND 86400),
    PRIMARY KEY (device_key, kind)
);

-- Alarms: one row for a run of equal reports. Bounded by age and number (catalog.alarms prunes).
CREATE TABLE alarms (
    alarm_key     text PRIMARY KEY,
    device_key    text NOT NULL REFERENCES devices,
    channel_key   text REFERENCES channels,
    source        text NOT NULL,
    at            double precision NOT NULL,
    received_at   double precision NOT NULL,
    last_at       double precision NOT NULL,
    count         integer NOT NULL DEFAULT 1,
    priority      integer,
    method        integer,
    kind          integer,
    event         integer,
    label         text NOT NULL,
    valid         boolean NOT NULL,
    description   text,
    longitude     double precision,
    latitude      double precision,
    acknowledged_at double precision,
    acknowledged_by text,
    note          text
);
CREATE INDEX alarms_order ON alarms (received_at DESC, alarm_key DESC);
CREATE INDEX alarms_channel ON alarms (channel_key, received_at DESC) WHERE channel_key IS NOT NULL;
CREATE INDEX alarms_device ON alarms (device_key, received_at DESC);

-- Where objects are (one row each) and were (bounded by age and number).
CREATE TABLE positions (
    device_key  text NOT NULL REFERENCES devices,
    gb_id       text NOT NULL,
    at          double precision NOT NULL,
    longitude   double precision NOT NULL,
    latitude    double precision NOT NULL,
    speed       double precision,
    direction   double precision,
    altitude    double precision,
    height      double precision,
    PRIMARY KEY (device_key, gb_id)
);
CREATE TABLE position_track (
    device_key  text NOT NULL REFERENCES devices,
    gb_id       text NOT NULL,
    at          double precision NOT NULL,
    longitude   double precision NOT NULL,
    latitude    double precision NOT NULL,
    speed       double precision,
    direction   double precision,
    PRIMARY KEY (device_key, gb_id, at)
);
CREATE INDEX position_track_age ON position_track (at);

-- What objects said of themselves: duty, condition (on, off, vlost, defect), where the camera looks.
CREATE TABLE object_states (
    device_key text NOT NULL REFERENCES devices,
    gb_id      text NOT NULL,
    condition  text CHECK (condition IN ('on', 'off', 'vlost', 'defect')),
    armed      boolean,
    view       jsonb,
    at         double precision NOT NULL,
    PRIMARY KEY (device_key, gb_id)
);

-- Orders that end with a notice, perhaps after the device (or we) have restarted.
CREATE TABLE device_orders (
    order_key   text PRIMARY KEY,
    device_key  text NOT NULL REFERENCES devices,
    channel_key text REFERENCES channels,
    kind        text NOT NULL CHECK (kind IN ('snapshot', 'upgrade')),
    session     text NOT NULL UNIQUE,
    state       text NOT NULL CHECK (state IN ('ordered', 'running', 'done', 'partial', 'failed')),
    ordered_at  double precision NOT NULL,
    ended_at    double precision,
    wanted      integer NOT NULL DEFAULT 0,
    finished    boolean NOT NULL DEFAULT false,
    files       text[] NOT NULL DEFAULT '{}',
    firmware    text,
    reason      text,
    ticket_hash bytea UNIQUE
);
CREATE INDEX device_orders_device ON device_orders (device_key, ordered_at DESC);
CREATE TABLE snapshots (
    snapshot_key text PRIMARY KEY,
    order_key    text NOT NULL REFERENCES device_orders,
    file_id      text NOT NULL,
    taken_at     double precision,
    received_at  double precision NOT NULL,
    media_type   text NOT NULL,
    size         bigint NOT NULL,
    sha256       bytea NOT NULL CHECK (length(sha256) = 32),
    UNIQUE (order_key, file_id)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON device_settings, device_subscriptions, alarms, positions, position_track,
    object_states, device_orders, snapshots TO mingjian_app;
