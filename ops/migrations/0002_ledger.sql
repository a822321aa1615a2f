-- The access ledger. Rows are never changed: not by the platform (it may only insert and read), and not by the owner
-- of the tables either, whom the triggers refuse. Whoever goes round them (a superuser) is found by recomputation.

CREATE TABLE ledger (
    seq         bigint PRIMARY KEY CHECK (seq >= 0),
    kind        text NOT NULL,
    at          double precision NOT NULL,
    user_key    text,
    channel_key text,
    lease_key   text,
    -- RFC 6962 leaf hash, SHA-256(0x00 || SHA-256(salt || record)), and the root of the tree that ends with this row.
    leaf        bytea NOT NULL CHECK (length(leaf) = 32),
    root        bytea NOT NULL CHECK (length(root) = 32)
);
-- Personal data lie here, outside the leaf, so that a lawful deletion would leave the tree whole.
CREATE TABLE ledger_records (
    seq    bigint PRIMARY KEY REFERENCES ledger,
    salt   bytea NOT NULL CHECK (length(salt) = 16),
    record text NOT NULL CHECK (length(record) <= 65536)
);
-- Complete subtrees of level 1 and above, for proofs without reading every leaf.
CREATE TABLE ledger_nodes (
    level    smallint NOT NULL CHECK (level BETWEEN 1 AND 62),
    position bigint NOT NULL CHECK (position >= 0),
    hash     bytea NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, position)
);
CREATE INDEX ledger_user ON ledger (user_key, seq) WHERE user_key IS NOT NULL;
CREATE INDEX ledger_channel ON ledger (channel_key, seq) WHERE channel_key IS NOT NULL;
CREATE INDEX ledger_kind ON ledger (kind, seq);
-- A lease begins once and ends once, whoever says so.
CREATE UNIQUE INDEX ledger_one_intent ON ledger (lease_key) WHERE kind = 'intent';
CREATE UNIQUE INDEX ledger_one_end ON ledger (lease_key) WHERE kind IN ('end', 'end_by_crash');

-- Leases begun and not ended: derived from the ledger in the transaction of its rows, so that it cannot disagree.
CREATE TABLE open_leases (
    lease_key   text PRIMARY KEY,
    intent_seq  bigint NOT NULL REFERENCES ledger,
    user_key    text NOT NULL,
    channel_key text NOT NULL,
    started_at  double precision NOT NULL
);

CREATE FUNCTION ledger_follow() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO open_leases (lease_key, intent_seq, user_key, channel_key, started_at)
        SELECT lease_key, seq, user_key, channel_key, at FROM fresh WHERE kind = 'intent';
    DELETE FROM open_leases o USING fresh f
        WHERE f.kind IN ('end', 'end_by_crash') AND o.lease_key = f.lease_key;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION ledger_follow() FROM PUBLIC;
CREATE TRIGGER ledger_follow AFTER INSERT ON ledger
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION ledger_follow();

CREATE FUNCTION ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'E_LEDGER_IMMUTABLE: the access ledger is append-only; % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'MJ405';
END $$;
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['ledger', 'ledger_records', 'ledger_nodes'] LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE OR DELETE OR TRUNCATE ON %I FOR EACH STATEMENT '
                       'EXECUTE FUNCTION ledger_refuse()', name || '_refuse', name);
        -- ALWAYS: session_replication_role = replica does not switch it off.
        EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER %I', name, name || '_refuse');
    END LOOP;
END $$;
ALTER TABLE ledger ENABLE ALWAYS TRIGGER ledger_follow;

GRANT SELECT, INSERT ON ledger, ledger_records, ledger_nodes TO mingjian_app;
GRANT SELECT ON open_leases TO mingjian_app;
