-- Who may come in: users, their one role, the subtrees they may watch, sessions (tokens only as hashes), failed logins.

CREATE TABLE users (
    user_key             text PRIMARY KEY,
    username             text NOT NULL,
    display_name         text NOT NULL,
    password_hash        text NOT NULL,
    former_hashes        text[] NOT NULL DEFAULT '{}',
    must_change_password boolean NOT NULL,
    enabled              boolean NOT NULL DEFAULT true,
    created_at           double precision NOT NULL,
    password_changed_at  double precision NOT NULL,
    last_login_at        double precision,
    removed_at           double precision
);
CREATE UNIQUE INDEX users_username ON users (username) WHERE removed_at IS NULL;

CREATE TABLE user_roles (
    user_key text NOT NULL REFERENCES users,
    role     text NOT NULL CHECK (role IN ('administrator', 'watcher', 'auditor')),
    -- Separation of powers (GB/T 22239 8.1.4.2): one role a user.
    PRIMARY KEY (user_key)
);

CREATE TABLE user_scopes (
    user_key text NOT NULL REFERENCES users,
    root_key text NOT NULL,
    PRIMARY KEY (user_key, root_key)
);

CREATE TABLE sessions (
    token_hash   bytea PRIMARY KEY CHECK (length(token_hash) = 32),
    user_key     text NOT NULL REFERENCES users,
    created_at   double precision NOT NULL,
    last_seen_at double precision NOT NULL,
    expires_at   double precision NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_key);

CREATE TABLE login_failures (
    account      bytea NOT NULL CHECK (length(account) = 32),
    source       text NOT NULL,
    failures     integer NOT NULL,
    last_at      double precision NOT NULL,
    PRIMARY KEY (account, source)
);
CREATE INDEX login_failures_age ON login_failures (last_at);

GRANT SELECT, INSERT, UPDATE ON users TO mingjian_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON user_roles, user_scopes, sessions, login_failures TO mingjian_app;
