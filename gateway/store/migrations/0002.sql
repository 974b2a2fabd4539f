-- Version 2: how each time is known, what was withdrawn, where kits stand and how they are calibrated, and bounds.

-- How well the gateway's clock was known at the receipt [s]; NULL: not trusted, and then nothing was held by it.
ALTER TABLE chunk ADD COLUMN clock_error_s INTEGER;
-- Moved by so much to a free millisecond, since a row of another boot or lower seq has the same time [ms].
ALTER TABLE chunk ADD COLUMN shift_ms INTEGER NOT NULL DEFAULT 0;
-- Why the rows have no hour: 1 no time, 2 from the future, 3 no free millisecond; NULL: they have one.
ALTER TABLE chunk ADD COLUMN waits INTEGER;
UPDATE chunk SET waits = CASE WHEN time_to_ms IS NULL THEN 1 ELSE 2 END WHERE hour IS NULL;

-- Receipts of `obs` messages by a trusted clock: their first and last, and the smallest receipt minus uptime.
ALTER TABLE boot ADD COLUMN live_from_ms INTEGER;
ALTER TABLE boot ADD COLUMN live_to_ms INTEGER;
ALTER TABLE boot ADD COLUMN live_offset_ms INTEGER;

-- Facts of the store itself: `horizon_hour` (no raw row below is kept for good, those hours are sealed), `columns` …
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- Merged intervals of seq that dead letters were to bring: receipts pass them, also when the letters have gone.
CREATE TABLE settled (
    kit        INTEGER NOT NULL,
    boot       INTEGER NOT NULL,
    seq_from   INTEGER NOT NULL,
    seq_to     INTEGER NOT NULL,
    PRIMARY KEY (kit, boot, seq_from)
) WITHOUT ROWID;
INSERT INTO settled (kit, boot, seq_from, seq_to)
    SELECT kit.id, boot, seq_from, max(seq_to) FROM dead_letter JOIN kit ON kit.name = dead_letter.kit
    WHERE seq_from IS NOT NULL GROUP BY kit.id, boot, seq_from;
DROP INDEX dead_letter_boot;
CREATE INDEX dead_letter_kit ON dead_letter (kit, id);

-- Hours whose derivation has failed are tried again after the others, and at each start.
ALTER TABLE dirty ADD COLUMN failed INTEGER NOT NULL DEFAULT 0;

-- Hours whose chunks are to be merged once nothing of them arrives any more.
CREATE TABLE loose (
    kit      INTEGER NOT NULL,
    hour     INTEGER NOT NULL,
    heard_ms INTEGER NOT NULL,
    PRIMARY KEY (kit, hour)
) WITHOUT ROWID;
INSERT INTO loose (kit, hour, heard_ms)
    SELECT kit, hour, max(received_ms) FROM chunk WHERE hour IS NOT NULL GROUP BY kit, hour HAVING count(*) > 1;

-- What sinks were given and does not hold any more; what stands at the same key again has a higher revision.
CREATE TABLE tombstone (
    rev     INTEGER PRIMARY KEY,
    kind    TEXT NOT NULL,           -- raw, air, hour, index
    name    TEXT NOT NULL,           -- the kit; of an index the site
    tag     TEXT NOT NULL,           -- the site (air, hour), the scheme (index), empty (raw)
    times   BLOB NOT NULL,           -- int64, little-endian [ms]
    made_ms INTEGER NOT NULL
);

-- Where a kit stands from an hour on, until its next line; NULL: at no site but its own.
CREATE TABLE deployment (
    kit       INTEGER NOT NULL REFERENCES kit (id),
    from_hour INTEGER NOT NULL,
    site      TEXT,
    PRIMARY KEY (kit, from_hour)
) WITHOUT ROWID;

-- Which PM2.5 correction a kit has from an hour on, until its next line; NULL: the configured one.
CREATE TABLE assignment (
    kit        INTEGER NOT NULL REFERENCES kit (id),
    from_hour  INTEGER NOT NULL,
    correction TEXT,
    PRIMARY KEY (kit, from_hour)
) WITHOUT ROWID;

ALTER TABLE hour ADD COLUMN site TEXT NOT NULL DEFAULT '';
UPDATE hour SET site = json_extract(CAST(record AS TEXT), '$.site');
CREATE INDEX hour_site ON hour (site, hour);

-- The boot's anchor has changed: its rows below this revision that wait or were placed by another are placed again.
ALTER TABLE boot ADD COLUMN moved INTEGER NOT NULL DEFAULT 0;
CREATE INDEX chunk_waits ON chunk (waits, time_to_ms) WHERE waits IS NOT NULL;
UPDATE boot SET moved = (SELECT value + 1 FROM revision);
