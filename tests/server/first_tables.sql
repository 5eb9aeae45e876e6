-- A store as the first version of its tables had it: twelve users of two variants, some epochs closed.
BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'adaptive-bandit','first_tables','2026-11-25 10:49:06.551145+00:00');
CREATE TABLE assignments (
    experiment INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    arm INTEGER NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (experiment, user_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "assignments" VALUES(1,'u0',1,0,1800000600.0);
INSERT INTO "assignments" VALUES(1,'u1',1,1,1800001200.0);
INSERT INTO "assignments" VALUES(1,'u10',3,0,1800006600.0);
INSERT INTO "assignments" VALUES(1,'u11',4,0,1800007200.0);
INSERT INTO "assignments" VALUES(1,'u2',1,1,1800001800.0);
INSERT INTO "assignments" VALUES(1,'u3',1,1,1800002400.0);
INSERT INTO "assignments" VALUES(1,'u4',2,0,1800003000.0);
INSERT INTO "assignments" VALUES(1,'u5',2,1,1800003600.0);
INSERT INTO "assignments" VALUES(1,'u6',2,0,1800004200.0);
INSERT INTO "assignments" VALUES(1,'u7',2,0,1800004800.0);
INSERT INTO "assignments" VALUES(1,'u8',3,0,1800005400.0);
INSERT INTO "assignments" VALUES(1,'u9',3,0,1800006000.0);
CREATE TABLE cells (
    experiment INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    arm INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    assigned INTEGER NOT NULL,
    moved INTEGER NOT NULL,
    PRIMARY KEY (experiment, epoch, arm, shard)
) STRICT, WITHOUT ROWID;
INSERT INTO "cells" VALUES(1,1,0,0,1,0);
INSERT INTO "cells" VALUES(1,1,1,0,3,0);
INSERT INTO "cells" VALUES(1,2,0,0,3,0);
INSERT INTO "cells" VALUES(1,2,1,0,1,0);
INSERT INTO "cells" VALUES(1,3,0,0,3,0);
INSERT INTO "cells" VALUES(1,4,0,0,1,0);
CREATE TABLE epochs (
    experiment INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    probabilities TEXT NOT NULL,
    learned_epochs INTEGER NOT NULL,
    started_at REAL NOT NULL,
    ended_at REAL,
    closed_at REAL,
    PRIMARY KEY (experiment, epoch)
) STRICT, WITHOUT ROWID;
INSERT INTO "epochs" VALUES(1,1,'[0.5, 0.5]',0,1800000000.0,1800003000.0,1800007200.0);
INSERT INTO "epochs" VALUES(1,2,'[0.5, 0.5]',0,1800003000.0,1800005400.0,NULL);
INSERT INTO "epochs" VALUES(1,3,'[0.55, 0.44999999999999996]',0,1800005400.0,1800007200.0,NULL);
INSERT INTO "epochs" VALUES(1,4,'[0.34000000000007147, 0.6599999999999285]',1,1800007200.0,NULL,NULL);
CREATE TABLE experiments (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    definition TEXT NOT NULL,
    state TEXT NOT NULL,
    serve INTEGER NOT NULL,
    truncated INTEGER NOT NULL,
    now REAL,
    origins TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at REAL NOT NULL,
    started_at REAL,
    stopped_at REAL
) STRICT;
INSERT INTO "experiments" VALUES(1,'x','{"key": "x", "hypothesis": "", "salt": "s", "variants": [{"key": "A", "control": true, "config": {"model": "m1"}}, {"key": "B", "control": false, "config": {"model": "m2"}}], "goal": {"metric": "resolved", "kind": "binary", "better": "higher", "per_user": "mean", "mde": 0.05}, "guardrails": [{"metric": "latency_ms", "kind": "numeric", "quantile": 0.95, "per_user": "mean", "max": 1500.0, "tolerance": 0.0}], "policy": {"kind": "thompson", "control_floor": 0.2, "growth": 0.02, "min_batch": 4, "max_epoch": "1h", "warmup": 4, "alpha": 0.05}, "rollout": {"exposure": 1.0}, "rewards": {"window": "1h", "request_timeout": "60s"}, "analysis": {"min_days": 7.0}}','running',0,0,1800007200.0,'[0.0, 0.0]',26,1800000000.0,1800000000.0,NULL);
CREATE TABLE outcomes (
    experiment INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    measure INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    total REAL NOT NULL,
    first REAL NOT NULL,
    PRIMARY KEY (experiment, user_id, measure)
) STRICT, WITHOUT ROWID;
INSERT INTO "outcomes" VALUES(1,'u0',0,1,0.0,0.0);
INSERT INTO "outcomes" VALUES(1,'u0',1,1,0.0,0.0);
INSERT INTO "outcomes" VALUES(1,'u1',0,1,1.0,1.0);
INSERT INTO "outcomes" VALUES(1,'u1',1,1,0.0,0.0);
INSERT INTO "outcomes" VALUES(1,'u10',0,1,0.0,0.0);
INSERT INTO "outcomes" VALUES(1,'u10',1,1,1.0,1.0);
INSERT INTO "outcomes" VALUES(1,'u11',0,1,1.0,1.0);
INSERT INTO "outcomes" VALUES(1,'u11',1,1,1.0,1.0);
INSERT INTO "outcomes" VALUES(1,'u2',0,1,0.0,0.0);
INSERT INTO "outcomes" VALUES(1,'u2',1,1,0.0,0.0);
INSERT INTO "outcomes" VALUES(1,'u3',0,1,1.0,1.0);
INSERT INTO "outcomes" VALUES(1,'u3',1,1,0.0,0.0);
INSERT INTO "outcomes" VALUES(1,'u4',0,1,0.0,0.0);
INSERT INTO "outcomes" VALUES(1,'u4',1,1,0.0,0.0);
INSERT INTO "outcomes" VALUES(1,'u5',0,1,1.0,1.0);
INSERT INTO "outcomes" VALUES(1,'u5',1,1,0.0,0.0);
INSERT INTO "outcomes" VALUES(1,'u6',0,1,0.0,0.0);
INSERT INTO "outcomes" VALUES(1,'u6',1,1,0.0,0.0);
INSERT INTO "outcomes" VALUES(1,'u7',0,1,1.0,1.0);
INSERT INTO "outcomes" VALUES(1,'u7',1,1,1.0,1.0);
INSERT INTO "outcomes" VALUES(1,'u8',0,1,0.0,0.0);
INSERT INTO "outcomes" VALUES(1,'u8',1,1,1.0,1.0);
INSERT INTO "outcomes" VALUES(1,'u9',0,1,1.0,1.0);
INSERT INTO "outcomes" VALUES(1,'u9',1,1,1.0,1.0);
CREATE TABLE rewards (
    experiment INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    metric TEXT NOT NULL,
    revision INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    value REAL NOT NULL,
    at REAL NOT NULL,
    epoch INTEGER,
    arm INTEGER,
    reason TEXT,
    firsts INTEGER NOT NULL,
    PRIMARY KEY (experiment, request_id, metric, revision)
) STRICT, WITHOUT ROWID;
INSERT INTO "rewards" VALUES(1,'r0','latency_ms',0,'u0',900.0,1800000600.0,1,0,NULL,2);
INSERT INTO "rewards" VALUES(1,'r0','resolved',0,'u0',0.0,1800000600.0,1,0,NULL,1);
INSERT INTO "rewards" VALUES(1,'r1','latency_ms',0,'u1',1000.0,1800001200.0,1,1,NULL,2);
INSERT INTO "rewards" VALUES(1,'r1','resolved',0,'u1',1.0,1800001200.0,1,1,NULL,1);
INSERT INTO "rewards" VALUES(1,'r10','latency_ms',0,'u10',1900.0,1800006600.0,3,0,NULL,2);
INSERT INTO "rewards" VALUES(1,'r10','resolved',0,'u10',0.0,1800006600.0,3,0,NULL,1);
INSERT INTO "rewards" VALUES(1,'r11','latency_ms',0,'u11',2000.0,1800007200.0,4,0,NULL,2);
INSERT INTO "rewards" VALUES(1,'r11','resolved',0,'u11',1.0,1800007200.0,4,0,NULL,1);
INSERT INTO "rewards" VALUES(1,'r2','latency_ms',0,'u2',1100.0,1800001800.0,1,1,NULL,2);
INSERT INTO "rewards" VALUES(1,'r2','resolved',0,'u2',0.0,1800001800.0,1,1,NULL,1);
INSERT INTO "rewards" VALUES(1,'r3','latency_ms',0,'u3',1200.0,1800002400.0,1,1,NULL,2);
INSERT INTO "rewards" VALUES(1,'r3','resolved',0,'u3',1.0,1800002400.0,1,1,NULL,1);
INSERT INTO "rewards" VALUES(1,'r4','latency_ms',0,'u4',1300.0,1800003000.0,2,0,NULL,2);
INSERT INTO "rewards" VALUES(1,'r4','resolved',0,'u4',0.0,1800003000.0,2,0,NULL,1);
INSERT INTO "rewards" VALUES(1,'r5','latency_ms',0,'u5',1400.0,1800003600.0,2,1,NULL,2);
INSERT INTO "rewards" VALUES(1,'r5','resolved',0,'u5',1.0,1800003600.0,2,1,NULL,1);
INSERT INTO "rewards" VALUES(1,'r6','latency_ms',0,'u6',1500.0,1800004200.0,2,0,NULL,2);
INSERT INTO "rewards" VALUES(1,'r6','resolved',0,'u6',0.0,1800004200.0,2,0,NULL,1);
INSERT INTO "rewards" VALUES(1,'r7','latency_ms',0,'u7',1600.0,1800004800.0,2,0,NULL,2);
INSERT INTO "rewards" VALUES(1,'r7','resolved',0,'u7',1.0,1800004800.0,2,0,NULL,1);
INSERT INTO "rewards" VALUES(1,'r8','latency_ms',0,'u8',1700.0,1800005400.0,3,0,NULL,2);
INSERT INTO "rewards" VALUES(1,'r8','resolved',0,'u8',0.0,1800005400.0,3,0,NULL,1);
INSERT INTO "rewards" VALUES(1,'r9','latency_ms',0,'u9',1800.0,1800006000.0,3,0,NULL,2);
INSERT INTO "rewards" VALUES(1,'r9','resolved',0,'u9',1.0,1800006000.0,3,0,NULL,1);
CREATE TABLE sums (
    experiment INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    arm INTEGER NOT NULL,
    measure INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    n REAL, z REAL, z2 REAL, z3 REAL, up_1 REAL, up_2 REAL, up_3 REAL, up_4 REAL, up_5 REAL, up_6 REAL, up_7 REAL, down_1 REAL, down_2 REAL, down_3 REAL, down_4 REAL, down_5 REAL, down_6 REAL, down_7 REAL,
    PRIMARY KEY (experiment, epoch, arm, measure, shard)
) STRICT, WITHOUT ROWID;
INSERT INTO "sums" VALUES(1,1,0,0,0,1.0,0.0,0.0,0.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "sums" VALUES(1,1,0,1,0,1.0,0.0,0.0,0.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "sums" VALUES(1,1,1,0,0,3.0,2.0,2.0,2.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "sums" VALUES(1,1,1,1,0,3.0,0.0,0.0,0.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "sums" VALUES(1,2,0,0,0,3.0,1.0,1.0,1.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "sums" VALUES(1,2,0,1,0,3.0,1.0,1.0,1.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "sums" VALUES(1,2,1,0,0,1.0,1.0,1.0,1.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "sums" VALUES(1,2,1,1,0,1.0,0.0,0.0,0.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "sums" VALUES(1,3,0,0,0,3.0,1.0,1.0,1.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "sums" VALUES(1,3,0,1,0,3.0,3.0,3.0,3.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "sums" VALUES(1,4,0,0,0,1.0,1.0,1.0,1.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "sums" VALUES(1,4,0,1,0,1.0,1.0,1.0,1.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE INDEX assignments_by_cell ON assignments (experiment, epoch, arm);
CREATE INDEX rewards_by_user ON rewards (experiment, user_id);
COMMIT;
