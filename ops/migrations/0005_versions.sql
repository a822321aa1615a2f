-- What a device speaks (X-GB-Ver of its registration; null: not said), and the schema's own version for the runtime role.

ALTER TABLE devices ADD COLUMN gb_version text;
GRANT SELECT ON schema_migrations TO mingjian_app;
