-- Version 3: which store this is, and the health of kits and gateway.

-- A sink's cursor belongs to one store: of another it would pass over what it never saw.
INSERT OR IGNORE INTO meta (name, value) VALUES ('store_id', lower(hex(randomblob(16))));

-- The last `diag` of each kit, as received.
ALTER TABLE kit ADD COLUMN diag BLOB;
ALTER TABLE kit ADD COLUMN diag_ms INTEGER;

-- Numbers of kits and of the gateway itself over time, for sinks; pruned by age.
CREATE TABLE health (
    rev     INTEGER PRIMARY KEY,
    kit     INTEGER NOT NULL,        -- 0: the gateway itself
    time_ms INTEGER NOT NULL,
    record  BLOB NOT NULL,           -- JSON: name to number
    UNIQUE (kit, time_ms)
);
CREATE INDEX health_time ON health (time_ms);
