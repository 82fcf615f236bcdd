#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# SQLite works on a mount, with the rollback and with the WAL journal.
. "$(dirname "$0")/lib.sh"
command -v sqlite3 >/dev/null || skip "sqlite3 is not installed"

make_image 512M --hosts 2
mount_host a
mount_host b
for mode in delete wal; do
	db=$(mnt a)/$mode.db
	[ "$(sqlite3 "$db" "pragma journal_mode=$mode;")" = $mode ] || fail "journal_mode=$mode is refused"
	sqlite3 "$db" "create table t(i integer primary key, v blob);
		with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000)
		insert into t select i, randomblob(200) from n;
		delete from t where i % 3 = 0; update t set v = randomblob(300) where i % 5 = 0; vacuum;"
	for i in $(seq 1 30); do sqlite3 "$db" "insert into t(v) values(randomblob($i))"; done
	[ "$(sqlite3 "$db" 'pragma integrity_check')" = ok ] || fail "$mode: integrity_check"
	n=$(sqlite3 "$db" 'select count(*) from t')
	sqlite3 "$db" 'pragma wal_checkpoint(truncate)' >/dev/null
	[ "$(sqlite3 "$(mnt b)/$mode.db" 'select count(*) from t')" = "$n" ] || fail "$mode: b counts other rows than a"
done
umount_all
check_clean
pass "SQLite works with rollback and WAL journals"
